// Continuous batching: which rows the next step of the model has, and what its logits mean for each
// sequence. It decides and computes; it has no threads, no sockets and no clock, so a test drives
// it step by step, and the router's loop is `while (has_work()) deliver(step())`.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/forward.hpp"
#include "conclave/engine/kv_blocks.hpp"
#include "conclave/engine/overlap.hpp"
#include "conclave/engine/sampler_pool.hpp"
#include "conclave/engine/sequence.hpp"
#include "conclave/engine/step_pace.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/model/expert_backend.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::engine {

class SequenceState;
struct Rank;

struct BatcherOptions {
  std::uint32_t sequences_max = 64;     // sequences that run at once: one row and one row of logits
                                        // (vocabulary x 4 bytes) each; at most step_rows_max count
  std::uint32_t step_rows_max = 512;    // rows of a step: beyond about 512 the weights are read no
                                        // less often per row, and every token waits for the step
  std::uint32_t waiting_max = 1024;     // requests not admitted yet; beyond it kOverloaded
  std::uint64_t kv_tokens_max = 65536;  // tokens of KV cache over all running sequences; one takes
                                        // KvPool::block_bytes() / 16 bytes
  model::KvType kv_type = model::KvType::kF16;  // their numbers: half precision costs no answer,
                                                // 8 bits halve the memory again
  bool prefix_cache = true;                     // sequences share the blocks of equal prefixes
  std::uint64_t kv_file_bytes = 0;  // of a file for known blocks that memory has no room for; 0:
                                    // none, they are forgotten
  std::string kv_file_directory = "/var/tmp";  // where that file is, without a name; on a disk that
                                               // reads faster than prompts are computed
  double prefill_slowdown_max = 1.5;  // how many times as long a step that decodes may take for
                                      // the sake of prompts (StepPace)
  // Prompts of up to so many tokens that are not cached are exempt from that: one pause of all
  // others (of one or a few steps) in place of many slow steps. Longer ones are so the less, and
  // not at all from twice the length on, where readers would see pauses all the time.
  std::uint32_t prefill_burst_tokens = 512;
  std::uint32_t micro_batches_max = 2;  // of a step while other machines compute experts, where it
                                        // turns out to be faster (Overlap); 1: never

  /// See SamplingParams::visit.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("sequences-max", sequences_max, 1u, 65536u, "Sequences that run at once");
    v("step-rows-max", step_rows_max, 1u, 65536u, "Most token rows of one step");
    v("waiting-max", waiting_max, 0u, 1u << 20, "Most requests that wait for admission");
    v("kv-tokens-max", kv_tokens_max, std::uint64_t{16}, std::uint64_t{1} << 40,
      "Most tokens of KV cache over all running sequences");
    v("kv-type", kv_type, "Numbers of the KV cache");
    v("prefix-cache", prefix_cache, "Compute equal beginnings of prompts once");
    v("kv-file-bytes", kv_file_bytes, std::uint64_t{0}, std::uint64_t{1} << 50,
      "Bytes of a file for beginnings of prompts that memory has no room for (0: none)");
    v("kv-file-directory", kv_file_directory, "Where that file is, for as long as the process");
    v("prefill-slowdown-max", prefill_slowdown_max, 1.0, 1e6,
      "How many times as long tokens may take while long prompts are read");
    v("prefill-burst-tokens", prefill_burst_tokens, 0u, 1u << 30,
      "Prompts of up to so many tokens are read at once, at the cost of a short pause of others");
    v("micro-batches-max", micro_batches_max, 1u, 2u,
      "Parts of a step of which one is computed here while other machines compute the experts of "
      "another, where that is faster (1: never)");
  }
};

/// The pool that `options` ask for: kv_tokens_max in whole blocks of kv_type, at least one. Errors
/// of KvPool::create.
base::Result<std::unique_ptr<model::KvPool>> make_kv_pool(const model::ModelConfig& config,
                                                          const BatcherOptions& options);

/// The file that `options` ask for; null: none. Errors of KvFile::create.
base::Result<std::unique_ptr<KvFile>> make_kv_file(const model::KvPool& pool,
                                                   const BatcherOptions& options);

/// Sizes now and totals since the start.
struct BatcherStats {
  std::size_t running = 0;
  std::size_t waiting = 0;
  std::uint64_t kv_tokens_used = 0;       // held by running sequences, in whole blocks
  std::uint64_t kv_tokens_known = 0;      // what the prefix cache has, held or not
  std::uint64_t kv_tokens_filed = 0;      // what the file has
  std::uint64_t kv_tokens_populated = 0;  // whose memory populate() took from the system
  std::uint64_t kv_tokens_max = 0;
  std::uint64_t prompt_tokens = 0;      // rows computed to fill caches, resumed output included
  std::uint64_t recomputed_tokens = 0;  // rows computed again after preemptions
  std::uint64_t generated_tokens = 0;   // reported as TokenEvent::token
  std::uint64_t queried_tokens = 0;     // tokens of prompts looked for in the prefix cache
  std::uint64_t cached_tokens = 0;      // of those, found
  std::uint64_t restored_tokens = 0;    // read from the file
  std::uint64_t degraded_pairs = 0;     // that went to next-best experts
  std::uint64_t preemptions = 0;        // sequences that had to give their blocks back
  std::uint64_t steps = 0;              // that ran the model, failed ones included
  std::uint64_t rows = 0;               // of those steps
  std::uint64_t split_steps = 0;        // of those, in two micro-batches

  /// Adds the totals of another batcher, whose sizes do not count.
  void add_totals(const BatcherStats& other);
};

/// One thread.
///
/// Order: sequences are served by priority, and in the order of their submission within one; a
/// priority is worth kAgingRequests places in that order, so each waits for boundedly many others.
/// The first that waits starts when there is a place, and blocks for what is known of it and one
/// more for each sequence that runs; none overtakes it. One of a better priority takes the places
/// of those of a worse one.
///
/// KV cache: sequences take blocks as they grow, first those that nobody knows anything of, then
/// those whose content nobody has used for longest, which go to the file if there is one and come
/// back when they are wanted. When none is free, the last in the order gives
/// up all of its own and waits again; then it computes again what the prefix cache has no more.
///
/// Steps: one row of each sequence that decodes; what is left of step_rows_max goes to prompts, in
/// chunks, in turns. If the caller says how long steps take (step_took), prompts get less beside
/// sequences that decode: those that have not used up their prefill_burst_tokens get half of what
/// they miss together, or kBurstRows, and one chunk of another passes a few layers in each step
/// (Passage), so that neither starves the other. What a prompt has in common with earlier ones is
/// not computed again while blocks of it are there, the row apart that its next token is drawn
/// from; and it waits for what another computes right now.
///
/// What a sequence computes does not depend on the others, nor on what was cached, preempted or
/// chunked, bit for bit (promise 1), unless experts were absent for it: then its events say so, and
/// nobody else uses what it computed since.
class Batcher {
 public:
  /// All references must outlive the batcher. `compute`: what the backbone runs on. `pool` is the
  /// batcher's alone; what it holds bounds the sequences (make_kv_pool()). `file`: of blocks of
  /// this pool and nobody else's (make_kv_file()); null: none.
  Batcher(model::Backbone& backbone, model::ExpertBackend& experts, const model::KvPool& pool,
          const tokenizer::Tokenizer& tokenizer, const kernels::Compute& compute,
          const BatcherOptions& options, KvFile* file = nullptr);
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

  /// How long the last step() took, which counts if it went well. While sequences decode, steps
  /// then do so much work on prompts that they take prefill_slowdown_max times as long as without,
  /// bursts apart, and go in two micro-batches where that is faster. What is computed stays the
  /// same.
  void step_took(std::chrono::nanoseconds duration);

  /// Takes some more of the cache's memory from the system, where steps would otherwise wait for it
  /// to be cleared; a few milliseconds. For when there is no work. False: there is nothing to take.
  bool populate();

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
    std::size_t first = 0;   // index among the rows of the step
    TokenEvent event;        // what it says of them
  };

  // A chunk of a prompt that passes some layers in each step.
  struct Chunk {
    Share share;
    std::uint32_t scores = 0;  // of its rows, those that want logits to score the prompt
    std::uint32_t begin = 0;   // layers that it has passed before the step at hand
    std::uint32_t end = 0;     // and after it
  };

  using Sequence = std::unique_ptr<SequenceState>;

  void grow();
  void admit();
  [[nodiscard]] bool enter(SequenceState& sequence);
  [[nodiscard]] std::size_t micro_batches();
  void preempt_last();
  void fill_step();
  [[nodiscard]] bool catch_up(SequenceState& sequence, std::size_t& restores_left);
  [[nodiscard]] bool is_under_way(SequenceState& sequence) const;
  void fill_prompts(std::optional<std::uint32_t> work);
  [[nodiscard]] std::size_t burst_rows_of_step() const;
  std::size_t add_rows(SequenceState& sequence, std::size_t rows_max);
  void begin_chunk(SequenceState& sequence, std::size_t rows_max);
  void add_chunk(std::optional<std::uint32_t> work);
  [[nodiscard]] Share share_of(SequenceState& sequence, std::size_t rows_max);
  void place_rows(Share& share);
  void place_logits(Share& share);
  void note_computed(const Share& share);
  void drop_chunk(const SequenceState& sequence);
  void judge(Share& share, Sampler& sampler, std::span<const float> logits) const;
  void finish_share(Share& share);
  void finish_chunk();
  void note_replaced(const Share& share);
  void fail_share(Share& share, const base::Error& error);
  void remove_finished();

  const model::ModelConfig& config_;
  const tokenizer::Tokenizer& tokenizer_;
  BatcherOptions options_;
  const model::KvPool& pool_;
  KvFile* file_;
  std::size_t restores_max_;  // blocks that one step may read from the file
  KvBlocks blocks_;
  std::uint32_t populated_ = 0;  // blocks, the first of the pool
  Forward forward_;
  SamplerPool samplers_;
  StepPace pace_;
  model::ExpertBackend& experts_;
  Overlap overlap_;

  std::uint64_t next_id_ = 1;
  std::map<Rank, Sequence> waiting_;
  std::size_t preempted_ = 0;        // of those that wait: they need no place in the queue
  std::vector<Sequence> running_;    // by rank
  std::vector<TokenEvent> pending_;  // what happened between steps, for the next one to report
  BatcherStats stats_;

  // The step at hand; reused.
  std::vector<StepRow> rows_;
  std::size_t decodes_ = 0;  // of these rows, the first, that are all their sequences miss
  std::size_t unpaced_ = 0;  // rows of prompts that are not paced
  bool has_failed_ = false;  // its duration says nothing
  std::uint32_t work_ = 0;   // of the chunk, in rows times layers; 0: it is not in it
  std::size_t through_ = 0;  // rows that pass all layers
  std::vector<Share> shares_;
  std::optional<Chunk> chunk_;           // its rows are the last ones
  std::vector<SequenceState*> prompts_;  // by turn
  std::vector<PrefixKey> under_way_;     // whole blocks of prompts that it computes
  std::size_t logits_rows_ = 0;          // rows of rows_ that want logits
  std::size_t prompt_logits_left_ = 0;   // rows that may still want them to score a prompt
  std::vector<TokenEvent> events_;
};

}  // namespace conclave::engine
