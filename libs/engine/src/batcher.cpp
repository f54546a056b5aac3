#include "conclave/engine/batcher.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "sequence_state.hpp"

namespace conclave::engine {

using base::ErrorCode;
using base::fail;

namespace {

// Rows of a step that want logits to score prompts: 64 rows of a vocabulary of 150,000 are 39 MB,
// and enough that the output matrix is read seldom.
constexpr std::size_t kPromptLogitsMax = 64;

}  // namespace

base::Result<std::unique_ptr<model::KvPool>> make_kv_pool(const model::ModelConfig& config,
                                                          const BatcherOptions& options) {
  return model::KvPool::create(
      config, std::max<std::uint64_t>(1, options.kv_tokens_max / model::kKvBlockTokens));
}

Batcher::Batcher(model::Backbone& backbone, model::ExpertBackend& experts,
                 const model::KvPool& pool, const tokenizer::Tokenizer& tokenizer,
                 const kernels::KernelTable& kernels, const BatcherOptions& options)
    : config_(backbone.config()),
      tokenizer_(tokenizer),
      options_(options),
      blocks_(pool.blocks()),
      forward_(backbone, experts, pool),
      sampler_(kernels) {
  options_.step_rows_max = std::max(1u, options_.step_rows_max);
  options_.sequences_max = std::clamp(options_.sequences_max, 1u, options_.step_rows_max);
  stats_.kv_tokens_max = std::uint64_t{blocks_.total()} * model::kKvBlockTokens;
}

Batcher::~Batcher() = default;

base::Result<SequenceId> Batcher::submit(SequenceRequest request) {
  CONCLAVE_TRY_VOID(check_request(request, config_));
  if (waiting_.size() + pending_.size() >= options_.waiting_max) {
    return fail(ErrorCode::kOverloaded,
                std::to_string(options_.waiting_max) + " requests are waiting already");
  }
  auto sequence = std::make_unique<SequenceState>(SequenceId{next_id_}, std::move(request), config_,
                                                  tokenizer_);
  CONCLAVE_TRY_VOID(sequence->replayed());
  if (sequence->blocks_needed() > blocks_.total()) {
    return fail(ErrorCode::kInvalidArgument,
                "prompt and max-tokens need " +
                    std::to_string(sequence->blocks_needed() * model::kKvBlockTokens) +
                    " tokens of KV cache, there are " + std::to_string(stats_.kv_tokens_max));
  }
  ++next_id_;
  const SequenceId id = sequence->id();
  if (sequence->finished()) {
    pending_.push_back(sequence->ending());
  } else {
    waiting_.push_back(std::move(sequence));
  }
  return id;
}

bool Batcher::cancel(SequenceId id) {
  const auto is_it = [id](const auto& sequence) { return sequence->id() == id; };
  const auto waiting = std::find_if(waiting_.begin(), waiting_.end(), is_it);
  const auto running = std::find_if(running_.begin(), running_.end(), is_it);
  if (waiting != waiting_.end()) {
    waiting_.erase(waiting);
  } else if (running != running_.end()) {
    blocks_.release((*running)->blocks());
    running_.erase(running);
  } else {
    return false;
  }
  TokenEvent event;
  event.id = id;
  event.finish = FinishReason::kCancelled;
  pending_.push_back(std::move(event));
  return true;
}

bool Batcher::has_work() const {
  return !pending_.empty() || !running_.empty() || !waiting_.empty();
}

std::span<TokenEvent> Batcher::step() {
  events_.clear();
  std::swap(events_, pending_);
  admit();
  fill_step();
  if (rows_.empty()) return events_;
  ++stats_.steps;
  stats_.rows += rows_.size();
  const auto logits = forward_.step(rows_);
  for (const Share& share : shares_) {
    if (logits) {
      finish_share(share, *logits);
    } else {
      share.sequence->finish();
      TokenEvent& event = events_.emplace_back();
      event.id = share.sequence->id();
      event.finish = FinishReason::kError;
      event.error = logits.error();
    }
  }
  remove_finished();
  return events_;
}

BatcherStats Batcher::stats() const {
  BatcherStats now = stats_;
  now.kv_tokens_used = std::uint64_t{blocks_.total() - blocks_.free()} * model::kKvBlockTokens;
  now.running = running_.size();
  now.waiting = waiting_.size();
  return now;
}

// In order: the first that does not fit holds up those behind it, or large ones would starve.
void Batcher::admit() {
  while (!waiting_.empty() && running_.size() < options_.sequences_max) {
    SequenceState& first = *waiting_.front();
    if (!blocks_.allocate(first.blocks_needed(), first.blocks())) return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

// Sequences that are one row from their next token first: a token delayed is seen by its reader.
void Batcher::fill_step() {
  rows_.clear();
  shares_.clear();
  logits_rows_ = 0;
  prompt_logits_left_ = kPromptLogitsMax;
  for (const bool decode : {true, false}) {
    for (const auto& sequence : running_) {
      if ((sequence->rows_missing() == 1) == decode) add_rows(*sequence);
    }
  }
}

// As many of the missing rows as fit.
void Batcher::add_rows(SequenceState& sequence) {
  Share share{&sequence, sequence.computed(), 0, logits_rows_};
  for (; share.rows < sequence.rows_missing() && rows_.size() < options_.step_rows_max;
       ++share.rows) {
    const std::uint32_t position = share.position + share.rows;
    const bool scores = sequence.scores(position);
    if (scores && prompt_logits_left_ == 0) break;
    const bool wants_logits = scores || sequence.draws(position);
    rows_.push_back({sequence.token(position), position, sequence.blocks(), wants_logits});
    if (scores) --prompt_logits_left_;
    if (wants_logits) ++logits_rows_;
    if (sequence.is_prompt(position)) ++stats_.prompt_tokens;
  }
  if (share.rows > 0) shares_.push_back(share);
}

void Batcher::finish_share(const Share& share, std::span<const float> logits) {
  SequenceState& sequence = *share.sequence;
  const std::size_t vocab = config_.vocab;
  std::size_t row = share.logits;
  const auto next_logits = [&] { return logits.subspan(row++ * vocab, vocab); };
  TokenEvent event;
  event.id = sequence.id();
  for (std::uint32_t i = 0; i < share.rows && !sequence.finished(); ++i) {
    const std::uint32_t position = share.position + i;
    if (sequence.scores(position)) {
      sequence.score(sampler_, position, next_logits(), event);
    } else if (sequence.draws(position)) {
      sequence.draw(sampler_, next_logits(), event);
      break;
    }
  }
  sequence.advance(share.rows);
  if (!sequence.finished()) sequence.finish_scoring(event);
  if (event.token != tokenizer::kNoToken) ++stats_.generated_tokens;
  const bool says_something = event.token != tokenizer::kNoToken || !event.prompt.empty() ||
                              event.finish != FinishReason::kNone;
  if (says_something) events_.push_back(std::move(event));
}

void Batcher::remove_finished() {
  std::erase_if(running_, [this](const auto& sequence) {
    if (sequence->finished()) blocks_.release(sequence->blocks());
    return sequence->finished();
  });
}

}  // namespace conclave::engine
