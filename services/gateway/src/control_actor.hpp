// The gateway's side of the control plane: asks the registry whose key a client shows, lets
// requests in that show one, passes administration on to its owner, and hands over what was used
// until the registry has it.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "admin_call.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "door.hpp"
#include "gateway_actor.hpp"
#include "key_book.hpp"
#include "usage_book.hpp"

namespace conclave::gateway {

using AdminMessage = std::shared_ptr<AdminCall>;

/// Where requests go that are let in. Said once, before the first of them.
struct Inside {
  GatewayActor actor;
};

/// What a tenant's quota says of a request that is at the door.
struct Counted {
  RequestId request{};
  quota::Counts counts;
};

/// A request has ended.
struct Used {
  std::optional<wire::Sha256> secret;  // of the key that it showed, if it did
  std::string model;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t expert_pairs = 0;
  std::uint64_t device_us = 0;
};

/// The link to a registry or a scheduler came up or went down.
struct OwnerLink {
  wire::NodeRole role = wire::NodeRole::kRegistry;
  fabric::LinkId link = 0;
  bool up = false;
  bool leads = false;  // of several schedulers: the one to ask
};

}  // namespace conclave::gateway

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::AdminMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::Inside)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::Counted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::Used)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::gateway::OwnerLink)

namespace conclave::gateway {

using ControlActor =
    fabric::WatcherActor::extend<caf::reacts_to<AdminMessage>, caf::reacts_to<Used>,
                                 caf::reacts_to<OwnerLink>, caf::reacts_to<Inside>,
                                 caf::reacts_to<SubmitMessage>, caf::reacts_to<ClientGone>,
                                 caf::reacts_to<Counted>, caf::reacts_to<caf::tick_atom>>;

struct ControlParts {
  fabric::Node& node;
  std::string usage_prefix;          // see UsageBook
  std::filesystem::path usage_file;  // empty: in memory only
  DoorOptions door;
  telemetry::Metrics& metrics;
  GatewayMetrics& gateway_metrics;
  telemetry::Logger log;
  std::function<std::chrono::steady_clock::time_point()> now;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
};

class ControlState final : private DoorPort {
 public:
  static constexpr const char* kName = "conclave.gateway.control";
  /// How often what was used is handed over.
  static constexpr std::chrono::milliseconds kTick{1000};
  /// Requests whose key is being asked for; more get 429.
  static constexpr std::size_t kAdminMax = 256;

  ControlState(ControlActor::pointer self, ControlParts parts);
  /// Saves what the registry does not have yet.
  ~ControlState() override;

  ControlActor::behavior_type make_behavior();

 private:
  void on_admin(const AdminMessage& call);
  void on_used(const Used& used);
  void on_link(const OwnerLink& link);
  void on_tick();

  void ask_key(const wire::Sha256& secret) override;
  void take(RequestId request, const quota::Ask& ask) override;
  void pass(Submission submission) override;
  void client_gone(RequestId request) override;

  using KeyThen = std::function<void(base::Result<wire::KeyAnswer>)>;

  struct Question {
    wire::Sha256 secret;
    std::chrono::milliseconds timeout;  // of each registry that is asked
    KeyThen then;
  };
  void ask(Question question);
  void ask_at(fabric::LinkId link, Question question, bool again);
  void pass_on(const AdminMessage& call, const wire::KeyAnswer& key);
  void pass_to(fabric::LinkId link, const AdminMessage& call, wire::NodeRole role, bool again);
  void add_usage(const Used& used, const wire::KeyAnswer* key);
  void send_usage();
  void usage_failed(const base::Error& error);
  /// Whether the file, if there is to be one, holds all of usage_.
  bool save_usage();

  [[nodiscard]] std::vector<fabric::LinkId>& owners(wire::NodeRole role) {
    return role == wire::NodeRole::kRegistry ? registries_ : schedulers_;
  }
  /// Whom to ask; 0: nobody is there.
  [[nodiscard]] fabric::LinkId owner(wire::NodeRole role);
  /// Whom to ask now that this one did not answer, which is asked last from now on; 0: nobody.
  [[nodiscard]] fabric::LinkId next_owner(wire::NodeRole role, fabric::LinkId silent);

  ControlActor::pointer self_;
  ControlParts parts_;
  KeyBook keys_;
  Door door_;
  GatewayActor inside_;
  UsageBook usage_;
  std::uint64_t saved_ = 0;  // of usage_.changes()
  bool sending_ = false;
  std::size_t admin_open_ = 0;
  std::vector<fabric::LinkId> registries_;  // that are up, in the order in which they are asked
  std::vector<fabric::LinkId> schedulers_;
  telemetry::Counter& batches_;
  telemetry::Counter& refused_;
  telemetry::Gauge& waiting_;
};

}  // namespace conclave::gateway
