// One sequence inside the batcher: its tokens, its cache, its text, and when it ends. Of other
// sequences it sees only what a prefix cache gives it.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/forward.hpp"
#include "conclave/engine/sampler.hpp"
#include "conclave/engine/sequence.hpp"
#include "conclave/engine/stop_matcher.hpp"
#include "conclave/engine/token_counts.hpp"
#include "conclave/model/config.hpp"
#include "conclave/tokenizer/stream_decoder.hpp"
#include "conclave/tokenizer/tokenizer.hpp"
#include "sequence_cache.hpp"

namespace conclave::engine {

/// A request goes before those of the next better priority that come so many places later.
inline constexpr std::int64_t kAgingRequests = 1024;

/// The order in which sequences are served; the least goes first. It never changes, so the first of
/// all that there are is always the first: it is never preempted, and ends.
struct Rank {
  std::int64_t turn = 0;
  SequenceId id{};

  friend auto operator<=>(const Rank&, const Rank&) = default;
};

/// kInvalidArgument: a request that no model of this configuration can run; the message names what
/// is wrong.
base::Status check_request(const SequenceRequest& request, const model::ModelConfig& config);

class SequenceState {
 public:
  /// Takes a request that check_request let pass, and replays what it has generated already. The
  /// tokenizer must outlive the state.
  SequenceState(SequenceId id, SequenceRequest request, const model::ModelConfig& config,
                const tokenizer::Tokenizer& tokenizer, bool shares_prefixes,
                std::uint32_t burst_tokens);

  [[nodiscard]] SequenceId id() const { return id_; }
  [[nodiscard]] std::int32_t priority() const { return request_.priority; }
  [[nodiscard]] Rank rank() const {
    return {static_cast<std::int64_t>(id_) + request_.priority * kAgingRequests, id_};
  }
  [[nodiscard]] bool finished() const { return finished_; }
  void finish() { finished_ = true; }

  /// kInvalidArgument if `generated` goes on after the end of the text.
  [[nodiscard]] const base::Status& replayed() const { return replayed_; }
  /// For a sequence that was finished before its first step: how.
  [[nodiscard]] const TokenEvent& ending() const { return ending_; }

  /// Blocks of KV cache at worst.
  [[nodiscard]] std::uint64_t blocks_needed() const {
    return model::kv_blocks_of(prompt_ + std::uint64_t{request_.max_tokens});
  }
  [[nodiscard]] model::KvTable blocks() const { return cache_.table(); }

  /// Is promised blocks for all that is known of it, and takes what the prefix cache has of that;
  /// false, with nothing taken, unless `spare` blocks stay free.
  [[nodiscard]] bool enter(KvBlocks& pool, std::uint32_t spare);
  /// Is promised the blocks that its missing rows need; false: there are none.
  [[nodiscard]] bool grow(KvBlocks& pool) { return cache_.grow(pool, rows_wanted()); }
  /// Passes over rows that others have computed since it entered.
  void skip_known(KvBlocks& pool);
  /// Passes over at most `blocks_max` blocks that the file has; returns the rows.
  std::uint32_t restore(KvBlocks& pool, KvFile& file, std::size_t blocks_max);
  [[nodiscard]] bool is_next_in(const KvFile& file);
  /// Takes the blocks of its next rows.
  void take(KvBlocks& pool, std::uint32_t rows) { cache_.take(pool, computed() + rows); }
  /// The keys of the whole blocks that its next rows are in.
  [[nodiscard]] std::span<const PrefixKey> next_keys(std::uint32_t rows) {
    return cache_.next_keys(tokens_, rows);
  }
  /// The key of its next block, if it could pass over that if only somebody had computed it.
  [[nodiscard]] std::optional<PrefixKey> next_shared();
  /// The rows are computed.
  void advance(KvBlocks& pool, std::uint32_t rows);
  /// Gives all blocks back. It may enter again, and goes on with the same bits.
  void leave(KvBlocks& pool) {
    if (broken_) cache_.forget(pool);
    cache_.release(pool);
  }
  /// So many pairs of the rows that are computed went to next-best experts: from here on nobody
  /// else may use what it computes.
  void note_degraded(std::uint32_t pairs) {
    degraded_ += pairs;
    cache_.stop_sharing();
  }
  /// Pairs noted since the last call.
  [[nodiscard]] std::uint32_t take_degraded() { return std::exchange(degraded_, 0); }
  /// What was computed for it, until an event says so.
  void note_cost(const StepCost& cost) {
    cost_.pairs += cost.pairs;
    cost_.device_us += cost.device_us;
  }
  void say_cost(TokenEvent& event) {
    const StepCost cost = std::exchange(cost_, {});
    event.pairs = cost.pairs;
    event.device_us = cost.device_us;
  }
  [[nodiscard]] bool was_preempted() const { return was_preempted_; }
  void note_preemption() { was_preempted_ = true; }
  [[nodiscard]] std::size_t prompt_tokens() const { return prompt_; }
  /// Of its prompt, tokens that it did not compute itself when it came to them first.
  [[nodiscard]] std::uint32_t cached_tokens() const { return cached_tokens_; }
  /// The step in which it got rows of its prompt, or entered: who has waited longest is next.
  [[nodiscard]] std::uint64_t served() const { return served_; }
  void serve(std::uint64_t step) { served_ = step; }
  /// Rows that it may still have computed without regard to how long others wait
  /// (BatcherOptions::prefill_burst_tokens).
  [[nodiscard]] std::uint32_t burst_left() const { return burst_left_; }
  void use_burst(std::size_t rows) {
    burst_left_ -= static_cast<std::uint32_t>(std::min<std::size_t>(rows, burst_left_));
  }

  [[nodiscard]] std::int32_t token(std::uint32_t position) const { return tokens_[position]; }
  /// Rows until the next token can be drawn, or until the prompt is scored; at least 1 while the
  /// sequence is not finished.
  [[nodiscard]] std::uint32_t rows_missing() const { return rows_wanted() - computed(); }
  /// Positions in the cache.
  [[nodiscard]] std::uint32_t computed() const { return cache_.computed(); }
  /// True while rows fill the cache with what was known when the sequence came.
  [[nodiscard]] bool is_prompt(std::uint32_t position) const { return position < given_; }
  /// True of rows that were computed before the sequence left.
  [[nodiscard]] bool is_again(std::uint32_t position) const { return position < reached_; }

  /// What the logits of a row are for.
  [[nodiscard]] bool scores(std::uint32_t position) const;
  [[nodiscard]] bool draws(std::uint32_t position) const;

  /// Adds the log-probabilities of the prompt's token after `position` to the event.
  void score(Sampler& sampler, std::uint32_t position, std::span<const float> logits,
             TokenEvent& event);
  /// Draws the next token and says in the event what became of it.
  void draw(Sampler& sampler, std::span<const float> logits, TokenEvent& event);
  /// Ends a sequence of which only the prompt was to be scored, once it is.
  void finish_scoring(TokenEvent& event);

 private:
  [[nodiscard]] std::uint32_t known() const { return static_cast<std::uint32_t>(tokens_.size()); }
  [[nodiscard]] std::size_t output_size() const { return tokens_.size() - prompt_; }
  /// Rows that need not be computed if others have: none with logits that are wanted.
  [[nodiscard]] std::uint32_t rows_to_share() const;
  void count_cached();
  [[nodiscard]] bool only_scores() const { return request_.max_tokens == 0; }
  [[nodiscard]] std::uint32_t rows_wanted() const { return only_scores() ? known() - 1 : known(); }
  void replay(const std::vector<std::int32_t>& generated);
  void take(std::int32_t token, TokenEvent& event);
  void add_text(std::int32_t token, TokenEvent& event);
  void end(FinishReason reason, TokenEvent& event);
  void fail(base::Error error, TokenEvent& event);

  SequenceId id_;
  SequenceRequest request_;
  const tokenizer::Tokenizer& tokenizer_;
  std::size_t prompt_;                // its tokens
  std::uint32_t given_;               // tokens that came with the request
  std::vector<std::int32_t> tokens_;  // prompt and output
  SequenceCache cache_;
  std::uint32_t reached_ = 0;  // positions computed at some time
  std::uint32_t cached_tokens_ = 0;
  std::uint32_t degraded_ = 0;
  StepCost cost_;
  std::uint64_t served_ = 0;
  std::uint32_t burst_tokens_;  // of a short prompt
  std::uint32_t burst_left_ = 0;
  bool scores_prompt_;
  std::uint32_t scored_ = 0;  // positions whose next token's log-probabilities are reported
  bool finished_ = false;
  bool was_preempted_ = false;
  bool broken_ = false;  // its logits were no numbers, so what it computed may be none either
  base::Status replayed_;
  TokenEvent ending_;

  std::vector<std::int32_t> blocked_;  // what ends the text; used before min_tokens only
  TokenCounts counts_;                 // filled only if there are penalties
  tokenizer::StreamDecoder decoder_;
  StopMatcher matcher_;
};

}  // namespace conclave::engine
