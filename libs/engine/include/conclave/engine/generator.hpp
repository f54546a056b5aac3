// Generates text for one or many prompts at once and returns when all are done: a loop over a
// Batcher that admits everything.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/forward.hpp"
#include "conclave/engine/local_model.hpp"
#include "conclave/engine/sequence.hpp"

namespace conclave::engine {

/// The output of one request. See TokenEvent for what tokens and text cover.
struct Generation {
  std::vector<std::int32_t> tokens;
  std::string text;
  std::vector<TokenLogprobs> logprobs;          // one a token, if asked for
  std::vector<TokenLogprobs> prompt_logprobs;   // from the second token on, if asked for
  FinishReason finish = FinishReason::kLength;  // kStop, kLength or kCancelled
};

class Generator {
 public:
  /// The model must outlive the generator.
  explicit Generator(LocalModel& model, model::KvType kv_type = model::KvType::kF16)
      : model_(model), kv_type_(kv_type) {}

  /// Called for each event as it comes; false cancels that sequence, if it has not ended.
  using OnEvent = std::function<bool(std::size_t sequence, const TokenEvent& event)>;

  /// Runs all requests to their ends. The first error of any request ends all of them: those of
  /// Batcher::submit and TokenEvent::error.
  base::Result<std::vector<Generation>> run(std::span<const SequenceRequest> requests,
                                            const OnEvent& on_event = {});

  /// See Forward::observe.
  void observe(RoutingObserver* observer) { observer_ = observer; }

 private:
  LocalModel& model_;
  model::KvType kv_type_;
  RoutingObserver* observer_ = nullptr;
};

}  // namespace conclave::engine
