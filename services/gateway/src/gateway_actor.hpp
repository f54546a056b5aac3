// The core as an actor: turns messages into its calls and what it wants of routers into messages.
// Decides nothing about requests.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "backend.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "gateway_core.hpp"

namespace conclave::gateway {

// Shared, so that a mailbox can hold what cannot be copied.
using SubmitMessage = std::shared_ptr<Submission>;
using TokenizeMessage = std::shared_ptr<TokenizeCall>;
using DetokenizeMessage = std::shared_ptr<DetokenizeCall>;
using FleetMessage = std::shared_ptr<const wire::Fleet>;

struct ClientGone {
  RequestId request{};
};

/// The link to a router came up or went down.
struct LinkChange {
  RouterId router{};
  bool up = false;
};

/// The link to a registry came up or went down.
struct RegistryLink {
  fabric::LinkId link = 0;
  bool up = false;
};

}  // namespace conclave::gateway

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::RegistryLink)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::SubmitMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::TokenizeMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::DetokenizeMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::FleetMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::ClientGone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::LinkChange)

namespace conclave::gateway {

/// Routers reach it as `streams`; the rest comes from this process.
using GatewayActor =
    fabric::StreamsActor::extend<caf::reacts_to<SubmitMessage>, caf::reacts_to<ClientGone>,
                                 caf::reacts_to<TokenizeMessage>, caf::reacts_to<DetokenizeMessage>,
                                 caf::reacts_to<FleetMessage>, caf::reacts_to<LinkChange>,
                                 caf::reacts_to<RegistryLink>, caf::reacts_to<caf::tick_atom>>;

struct GatewayActorParts {
  fabric::Node& node;
  GatewayMetrics& metrics;
  GatewayStatus& status;
  CoreOptions options;
  telemetry::Logger log;
  std::function<std::chrono::steady_clock::time_point()> now;
};

class GatewayActorState final : private RouterPort {
 public:
  static constexpr const char* kName = "conclave.gateway";

  GatewayActorState(GatewayActor::pointer self, GatewayActorParts parts);

  GatewayActor::behavior_type make_behavior();

 private:
  void on_events(wire::TokenEvents& events);
  void on_submit(const SubmitMessage& submission);
  void on_tokenize(const TokenizeMessage& call);
  void on_detokenize(const DetokenizeMessage& call);
  void on_link(const LinkChange& change);
  void on_registry(const RegistryLink& link);
  void on_tick();
  /// Of the registries that are there, in turns until one answers.
  void ask_deployments();

  std::optional<RouterId> connect(const std::string& address) override;
  void disconnect(RouterId router) override;
  void generate(RouterId router, const wire::Generate& request) override;
  void cancel(RouterId router, const wire::CancelStream& cancel) override;

  /// As long as the link is up it is the same proxy.
  const fabric::InferenceActor& inference(RouterId router);

  GatewayActor::pointer self_;
  fabric::Node& node_;
  GatewayMetrics& metrics_;
  const std::function<std::chrono::steady_clock::time_point()> now_;
  GatewayCore core_;
  std::vector<fabric::LinkId> registries_;  // that are up, in the order in which they are asked
  bool asking_ = false;
  std::chrono::steady_clock::time_point ask_at_{};
  std::unordered_map<RouterId, fabric::InferenceActor> proxies_;
};

}  // namespace conclave::gateway
