#include "conclave/engine/generator.hpp"

#include <algorithm>
#include <string>

namespace conclave::engine {

using base::ErrorCode;
using base::fail;

struct Generator::Sequence {
  std::size_t index = 0;
  const GenerateRequest* request = nullptr;
  model::KvCache cache;
  std::uint32_t computed = 0;  // positions in the cache
  Generation out;
  bool finished = false;

  [[nodiscard]] std::size_t known() const { return request->prompt.size() + out.tokens.size(); }
  [[nodiscard]] std::int32_t token(std::size_t position) const {
    const std::size_t prompt = request->prompt.size();
    return position < prompt ? request->prompt[position] : out.tokens[position - prompt];
  }
};

Generator::Generator(LocalModel& model)
    : model_(model), forward_(model.backbone(), model.experts()), sampler_(model.kernels()) {}

base::Status Generator::check(const GenerateRequest& request) const {
  if (request.prompt.empty()) {
    return fail(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  }
  const std::uint64_t tokens = std::uint64_t{request.prompt.size()} + request.max_tokens;
  if (tokens > model_.config().context_length) {
    return fail(ErrorCode::kInvalidArgument,
                std::to_string(request.prompt.size()) + " prompt tokens and " +
                    std::to_string(request.max_tokens) + " new ones exceed the context of " +
                    std::to_string(model_.config().context_length) + " tokens");
  }
  return validate(request.sampling);
}

base::Result<std::vector<Generation>> Generator::run(std::span<const GenerateRequest> requests,
                                                     const OnToken& on_token) {
  std::vector<Sequence> sequences;
  for (const GenerateRequest& request : requests) {
    CONCLAVE_TRY_VOID(check(request));
    const auto room = static_cast<std::uint32_t>(request.prompt.size()) + request.max_tokens;
    sequences.push_back(
        {sequences.size(), &request, model::KvCache(model_.config(), room), 0, {}, false});
    sequences.back().finished = request.max_tokens == 0;
  }
  for (fill_step(sequences); !rows_.empty(); fill_step(sequences)) {
    CONCLAVE_TRY(const std::span<const float> logits, forward_.step(rows_));
    const std::size_t vocab = model_.config().vocab;
    for (std::size_t i = 0; i < samplers_.size(); ++i) {
      CONCLAVE_TRY_VOID(
          accept(sequences[samplers_[i]], logits.subspan(i * vocab, vocab), on_token));
    }
  }
  std::vector<Generation> generations;
  for (Sequence& sequence : sequences) generations.push_back(std::move(sequence.out));
  return generations;
}

// Sequences in order, each with as many of its tokens that are known and not computed as fit.
void Generator::fill_step(std::vector<Sequence>& sequences) {
  rows_.clear();
  samplers_.clear();
  for (Sequence& sequence : sequences) {
    if (sequence.finished) continue;
    const std::size_t known = sequence.known();
    while (sequence.computed < known && rows_.size() < kStepRowsMax) {
      const std::uint32_t position = sequence.computed++;
      const bool last = position + 1 == known;
      rows_.push_back({sequence.token(position), position, &sequence.cache, last});
      if (last) samplers_.push_back(sequence.index);
    }
    if (rows_.size() == kStepRowsMax) return;
  }
}

base::Status Generator::accept(Sequence& sequence, std::span<const float> logits,
                               const OnToken& on_token) {
  const GenerateRequest& request = *sequence.request;
  CONCLAVE_TRY(const std::int32_t token,
               sampler_.sample(logits, request.sampling, sequence.known()));
  if (!request.ignore_eos && model_.tokenizer().is_end_of_generation(token)) {
    sequence.out.finish = FinishReason::kStop;
    sequence.finished = true;
    return {};
  }
  sequence.out.tokens.push_back(token);
  if (request.top_logprobs > 0) {
    sequence.out.top_logprobs.push_back(sampler_.top_logprobs(logits, request.top_logprobs));
  }
  if (on_token && !on_token(sequence.index, token)) {
    sequence.out.finish = FinishReason::kStop;
    sequence.finished = true;
  } else if (sequence.out.tokens.size() == request.max_tokens) {
    sequence.finished = true;
  }
  return {};
}

}  // namespace conclave::engine
