// One sequence inside the batcher: its tokens, its cache, its text, and when it ends. It sees
// nothing of other sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/sampler.hpp"
#include "conclave/engine/sequence.hpp"
#include "conclave/engine/stop_matcher.hpp"
#include "conclave/engine/token_counts.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/kv_pool.hpp"
#include "conclave/tokenizer/stream_decoder.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::engine {

/// kInvalidArgument: a request that no model of this configuration can run; the message names what
/// is wrong.
base::Status check_request(const SequenceRequest& request, const model::ModelConfig& config);

class SequenceState {
 public:
  /// Takes a request that check_request let pass, and replays what it has generated already. The
  /// tokenizer must outlive the state.
  SequenceState(SequenceId id, SequenceRequest request, const model::ModelConfig& config,
                const tokenizer::Tokenizer& tokenizer);

  [[nodiscard]] SequenceId id() const { return id_; }
  [[nodiscard]] bool finished() const { return finished_; }
  void finish() { finished_ = true; }

  /// kInvalidArgument if `generated` goes on after the end of the text.
  [[nodiscard]] const base::Status& replayed() const { return replayed_; }
  /// For a sequence that was finished before its first step: how.
  [[nodiscard]] const TokenEvent& ending() const { return ending_; }

  /// Blocks of KV cache at worst.
  [[nodiscard]] std::uint64_t blocks_needed() const {
    return model::kv_blocks_of(request_.prompt.size() + std::uint64_t{request_.max_tokens});
  }
  /// The blocks it holds; the batcher's.
  [[nodiscard]] std::vector<model::KvBlockId>& blocks() { return blocks_; }

  [[nodiscard]] std::int32_t token(std::uint32_t position) const;
  /// Rows until the next token can be drawn, or until the prompt is scored; at least 1 while the
  /// sequence is not finished.
  [[nodiscard]] std::uint32_t rows_missing() const { return rows_wanted() - computed_; }
  /// Positions in the cache.
  [[nodiscard]] std::uint32_t computed() const { return computed_; }
  void advance(std::uint32_t rows) { computed_ += rows; }
  /// True while rows fill the cache with what was known when the sequence came.
  [[nodiscard]] bool is_prompt(std::uint32_t position) const { return position < given_; }

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
  [[nodiscard]] std::uint32_t known() const {
    return static_cast<std::uint32_t>(request_.prompt.size() + output_.size());
  }
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
  std::vector<model::KvBlockId> blocks_;
  std::uint32_t given_;  // tokens that came with the request
  std::uint32_t computed_ = 0;
  bool scores_prompt_;
  bool finished_ = false;
  base::Status replayed_;
  TokenEvent ending_;

  std::vector<std::int32_t> output_;
  std::vector<std::int32_t> blocked_;  // what ends the text; used before min_tokens only
  TokenCounts counts_;                 // filled only if there are penalties
  tokenizer::StreamDecoder decoder_;
  StopMatcher matcher_;
};

}  // namespace conclave::engine
