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

#include "admission.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "engine_set.hpp"

namespace conclave::router {

/// What the engine's thread sends the actor; shared, so that moving it through a mailbox is free.
/// What waits there is bounded by the sequences that Admission lets in.
using NewsMessage = std::shared_ptr<EngineNews>;

/// A link that went down: nobody hears its streams any more.
struct LinkDown {
  fabric::LinkId link = 0;
};

}  // namespace conclave::router

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::router::NewsMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::router::LinkDown)

namespace conclave::router {

using RouterActor =
    fabric::InferenceActor::extend<caf::reacts_to<NewsMessage>, caf::reacts_to<LinkDown>>;

struct RouterParts {
  fabric::Node& node;
  EngineSet& engines;
  Admission& admission;
  std::uint64_t kv_tokens_max = 0;  // of all sequences of one version together
  telemetry::Logger log;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
};

/// A stream belongs to the link over which it was asked for: its events go there, only that link
/// can cancel it, and it ends with the link, whatever names the messages carry.
class RouterState {
 public:
  static constexpr const char* kName = "conclave.router";

  RouterState(RouterActor::pointer self, RouterParts parts)
      : self_(self), parts_(std::move(parts)) {}

  RouterActor::behavior_type make_behavior();

 private:
  using Accepted = caf::result<wire::Accepted>;
  using LinkStream = std::pair<fabric::LinkId, std::uint64_t>;  // whose, and its number there

  struct Open {
    LinkStream whose;
    std::shared_ptr<InferenceEngine> engine;
    caf::typed_response_promise<wire::Accepted> promise;
    std::size_t unfinished = 0;  // choices
    bool cancelled = false;
    bool heard = true;  // the link is up
  };

  Accepted on_generate(const wire::Generate& request);
  void on_cancel(const wire::CancelStream& cancel);
  caf::result<wire::TokenizeReply> on_tokenize(const wire::TokenizeRequest& request);
  caf::result<wire::DetokenizeReply> on_detokenize(const wire::DetokenizeRequest& request);
  void on_news(EngineNews& news);
  void on_link_down(const LinkDown& down);

  [[nodiscard]] fabric::LinkId sender() const;
  [[nodiscard]] base::Result<std::uint32_t> max_tokens(const wire::Generate& request,
                                                       std::uint64_t prompt,
                                                       std::uint64_t context) const;
  [[nodiscard]] base::Result<EngineJob> make_job(const wire::Generate& request,
                                                 std::shared_ptr<const ServedModel> model) const;
  void cancel(StreamKey key, Open& open);
  void finish(StreamKey key, std::size_t choices);

  RouterActor::pointer self_;
  RouterParts parts_;
  StreamKey next_stream_ = 1;
  std::unordered_map<StreamKey, Open> open_;
  std::map<LinkStream, StreamKey> by_link_;
};

}  // namespace conclave::router
