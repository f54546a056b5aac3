// The router as gateways reach it: turns requests into jobs of the engine, and what the engine says
// into answers and token events. Decides nothing about sequences.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "inference_engine.hpp"

namespace conclave::router {

/// What the engine's thread sends the actor; shared, so that moving it through a mailbox is free.
using NewsMessage = std::shared_ptr<EngineNews>;

/// A gateway whose link went down: nobody hears its streams any more.
struct GatewayGone {
  std::string node;
};

}  // namespace conclave::router

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::router::NewsMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::router::GatewayGone)

namespace conclave::router {

using RouterActor =
    fabric::InferenceActor::extend<caf::reacts_to<NewsMessage>, caf::reacts_to<GatewayGone>>;

struct RouterParts {
  fabric::Node& node;
  InferenceEngine& engine;
  telemetry::Logger log;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
  std::function<bool()> draining;
};

class RouterState {
 public:
  static constexpr const char* kName = "conclave.router";

  RouterState(RouterActor::pointer self, RouterParts parts)
      : self_(self), parts_(std::move(parts)) {}

  RouterActor::behavior_type make_behavior();

 private:
  using Accepted = caf::result<wire::Accepted>;
  using GatewayStream = std::pair<std::string, std::uint64_t>;  // gateway, its number

  struct Open {
    GatewayStream whose;
    caf::typed_response_promise<wire::Accepted> promise;
    std::size_t unfinished = 0;  // choices
  };

  Accepted on_generate(const wire::Generate& request);
  void on_cancel(const wire::CancelStream& cancel);
  caf::result<wire::TokenizeReply> on_tokenize(const wire::TokenizeRequest& request);
  caf::result<wire::DetokenizeReply> on_detokenize(const wire::DetokenizeRequest& request);
  void on_news(EngineNews& news);
  void on_gateway_gone(const GatewayGone& gone);

  base::Result<EngineJob> make_job(const wire::Generate& request) const;
  base::Result<std::shared_ptr<const ServedModel>> model_for(const std::string& name) const;
  void close(StreamKey stream);

  RouterActor::pointer self_;
  RouterParts parts_;
  StreamKey next_stream_ = 1;
  std::unordered_map<StreamKey, Open> open_;
  std::map<GatewayStream, StreamKey> by_gateway_;
};

}  // namespace conclave::router
