// Continuous batching: which rows the next step of the model has, and what its logits mean for each
// sequence. It decides and computes; it has no threads, no sockets and no clock, so a test drives
// it step by step, and the router's loop is `while (has_work()) deliver(step())`.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/forward.hpp"
#include "conclave/engine/kv_blocks.hpp"
#include "conclave/engine/sampler.hpp"
#include "conclave/engine/sequence.hpp"
#include "conclave/kernels/kernel_table.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/model/expert_backend.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::engine {

class SequenceState;

struct BatcherOptions {
  std::uint32_t sequences_max = 64;     // sequences that run at once: one row and one row of logits
                                        // (vocabulary x 4 bytes) each; at most step_rows_max count
  std::uint32_t step_rows_max = 512;    // rows of a step: beyond about 512 the weights are read no
                                        // less often per row, and every token waits for the step
  std::uint32_t waiting_max = 1024;     // requests not admitted yet; beyond it kOverloaded
  std::uint64_t kv_tokens_max = 65536;  // tokens of KV cache over all running sequences; one takes
                                        // KvPool::block_bytes() / 16 bytes

  /// See SamplingParams::visit.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("sequences-max", sequences_max, 1u, 65536u, "Sequences that run at once");
    v("step-rows-max", step_rows_max, 1u, 65536u, "Most token rows of one step");
    v("waiting-max", waiting_max, 0u, 1u << 20, "Most requests that wait for admission");
    v("kv-tokens-max", kv_tokens_max, std::uint64_t{16}, std::uint64_t{1} << 40,
      "Most tokens of KV cache over all running sequences");
  }
};

/// The pool that `options` ask for: kv_tokens_max in whole blocks, at least one. Errors of
/// KvPool::create.
base::Result<std::unique_ptr<model::KvPool>> make_kv_pool(const model::ModelConfig& config,
                                                          const BatcherOptions& options);

/// Sizes now and totals since the start.
struct BatcherStats {
  std::size_t running = 0;
  std::size_t waiting = 0;
  std::uint64_t kv_tokens_used = 0;  // reserved by running sequences, in whole blocks
  std::uint64_t kv_tokens_max = 0;
  std::uint64_t prompt_tokens = 0;     // rows computed to fill caches, resumed output included
  std::uint64_t generated_tokens = 0;  // reported as TokenEvent::token
  std::uint64_t steps = 0;             // that ran the model, failed ones included
  std::uint64_t rows = 0;              // of those steps
};

/// One thread. Sequences start in the order of submission (FCFS, no overtaking): each when a place
/// is free and its worst case, prompt + max_tokens in whole KV blocks, fits. A started sequence is
/// never paused or evicted. A step has one row of each sequence that decodes; what is left of
/// step_rows_max goes to prompts, again in order, in chunks.
///
/// What a sequence computes does not depend on the others, bit for bit (promise 1).
class Batcher {
 public:
  /// All references must outlive the batcher. `kernels`: those that the backbone runs on. `pool` is
  /// the batcher's alone; what it holds bounds the sequences (make_kv_pool()).
  Batcher(model::Backbone& backbone, model::ExpertBackend& experts, const model::KvPool& pool,
          const tokenizer::Tokenizer& tokenizer, const kernels::KernelTable& kernels,
          const BatcherOptions& options);
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  /// Queues a sequence. kOverloaded: waiting_max are waiting already; back off. kInvalidArgument:
  /// the request can never run: empty prompt, tokens outside the vocabulary, parameters out of
  /// range, prompt + max_tokens beyond the context or beyond the pool, or `generated` goes on
  /// after its own end.
  base::Result<SequenceId> submit(SequenceRequest request);

  /// Ends a sequence, waiting or running, and frees what it holds; the next step reports it as
  /// kCancelled. False if there is none of this id (any more).
  bool cancel(SequenceId id);

  /// True if step() has anything to do or to report.
  [[nodiscard]] bool has_work() const;

  /// Admits, computes one step and reports it: at most one event a sequence, which the caller may
  /// move from, valid until the next call of any member. When the model cannot
  /// compute the step (the expert backend is unavailable, say), the sequences with rows in it end
  /// with kError and the others go on; when the logits of one sequence are broken (kCorruptData),
  /// only that one ends.
  std::span<TokenEvent> step();

  [[nodiscard]] BatcherStats stats() const;

  /// See Forward::observe.
  void observe(RoutingObserver* observer) { forward_.observe(observer); }

 private:
  // The rows of one sequence in the step at hand, and where their logits begin.
  struct Share {
    SequenceState* sequence = nullptr;
    std::uint32_t position = 0;  // of the first row
    std::uint32_t rows = 0;
    std::size_t logits = 0;  // index among the rows with logits
  };

  base::Status check(const SequenceRequest& request) const;
  void admit();
  void fill_step();
  void add_rows(SequenceState& sequence);
  void finish_share(const Share& share, std::span<const float> logits);
  void remove_finished();

  const model::ModelConfig& config_;
  const tokenizer::Tokenizer& tokenizer_;
  BatcherOptions options_;
  KvBlocks blocks_;
  Forward forward_;
  Sampler sampler_;

  std::uint64_t next_id_ = 1;
  std::deque<std::unique_ptr<SequenceState>> waiting_;
  std::vector<std::unique_ptr<SequenceState>> running_;  // in the order of admission
  std::vector<TokenEvent> pending_;  // what happened between steps, for the next one to report
  BatcherStats stats_;

  // The step at hand; reused.
  std::vector<StepRow> rows_;
  std::vector<Share> shares_;
  std::size_t logits_rows_ = 0;         // rows of rows_ that want logits
  std::size_t prompt_logits_left_ = 0;  // rows that may still want them to score a prompt
  std::vector<TokenEvent> events_;
};

}  // namespace conclave::engine
