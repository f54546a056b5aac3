#include "conclave/engine/generator.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "conclave/engine/batcher.hpp"

namespace conclave::engine {
namespace {

// Everything that is asked for runs: whoever calls has chosen how much that is.
BatcherOptions room_for(std::span<const SequenceRequest> requests, std::uint64_t context) {
  BatcherOptions options;
  options.sequences_max = options.step_rows_max;
  options.waiting_max = static_cast<std::uint32_t>(
      std::min<std::size_t>(requests.size(), std::numeric_limits<std::uint32_t>::max()));
  options.kv_tokens_max = 0;
  for (const SequenceRequest& request : requests) {
    // What exceeds the context is refused.
    const std::uint64_t tokens =
        std::min(context, request.prompt.size() + std::uint64_t{request.max_tokens});
    options.kv_tokens_max += model::kv_blocks_of(tokens) * model::kKvBlockTokens;
  }
  return options;
}

void add(TokenEvent& event, const SequenceRequest& request, Generation& generation) {
  generation.text += event.text;
  std::move(event.prompt.begin(), event.prompt.end(),
            std::back_inserter(generation.prompt_logprobs));
  if (event.token != tokenizer::kNoToken) {
    generation.tokens.push_back(event.token);
    if (request.logprobs || request.top_logprobs > 0) {
      generation.logprobs.push_back({event.token, event.logprob, std::move(event.top)});
    }
  }
  if (event.finish != FinishReason::kNone) generation.finish = event.finish;
}

}  // namespace

base::Result<std::vector<Generation>> Generator::run(std::span<const SequenceRequest> requests,
                                                     const OnEvent& on_event) {
  BatcherOptions options = room_for(requests, model_.config().context_length);
  options.kv_type = kv_type_;
  CONCLAVE_TRY(const auto pool, make_kv_pool(model_.config(), options));
  Batcher batcher(model_.backbone(), model_.experts(), *pool, model_.tokenizer(), model_.compute(),
                  options);
  batcher.observe(observer_);
  std::vector<SequenceId> ids;  // rising, as the batcher gives them
  for (const SequenceRequest& request : requests) {
    CONCLAVE_TRY(const SequenceId id, batcher.submit(request));
    ids.push_back(id);
  }
  std::vector<Generation> generations(requests.size());
  std::vector<SequenceId> unwanted;
  while (batcher.has_work()) {
    for (TokenEvent& event : batcher.step()) {
      if (event.finish == FinishReason::kError) return base::fail(std::move(event.error));
      const auto found = std::lower_bound(ids.begin(), ids.end(), event.id);
      const auto sequence = static_cast<std::size_t>(found - ids.begin());
      const bool goes_on = !on_event || on_event(sequence, event);
      if (!goes_on && event.finish == FinishReason::kNone) unwanted.push_back(event.id);
      add(event, requests[sequence], generations[sequence]);
    }
    for (const SequenceId id : unwanted) batcher.cancel(id);
    unwanted.clear();
  }
  return generations;
}

}  // namespace conclave::engine
