#include "conclave/engine/batcher.hpp"

#include <algorithm>
#include <numeric>
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

// What a step may read from the file: some milliseconds, which those that decode wait for.
constexpr std::size_t kRestoreBytes = std::size_t{8} << 20;

// Rows of a step that prompts may use up their burst with, at least: the weights of all experts are
// read for them; a pause of a tenth of a second on two cores. Where twice as many wait, a step
// takes half of what waits: rows cost the less the more of them an expert gets (512 in one step
// take 0.6 of the time of four times 128), so that all are read sooner, and those that decode wait
// less in all, if longer at once.
constexpr std::size_t kBurstRows = 128;

// Rows of a chunk that passes few layers a step, at most: more are no cheaper, and it takes as many
// steps as there are layers, however few rows it has.
constexpr std::size_t kChunkRows = 256;

// What populate() takes at once: 8 ms where a virtual machine has to ask its host for each page, a
// tenth of that elsewhere.
constexpr std::size_t kPopulateBytes = std::size_t{4} << 20;

// How many steps a prompt waits for others of the next better priority that want rows all the time.
constexpr std::int64_t kAgingSteps = 64;

}  // namespace

base::Result<std::unique_ptr<model::KvPool>> make_kv_pool(const model::ModelConfig& config,
                                                          const BatcherOptions& options) {
  return model::KvPool::create(
      config, options.kv_type,
      std::max<std::uint64_t>(1, options.kv_tokens_max / model::kKvBlockTokens));
}

base::Result<std::unique_ptr<KvFile>> make_kv_file(const model::KvPool& pool,
                                                   const BatcherOptions& options) {
  if (options.kv_file_bytes == 0) return nullptr;
  return KvFile::create(options.kv_file_directory, options.kv_file_bytes, pool);
}

void BatcherStats::add_totals(const BatcherStats& other) {
  prompt_tokens += other.prompt_tokens;
  recomputed_tokens += other.recomputed_tokens;
  generated_tokens += other.generated_tokens;
  queried_tokens += other.queried_tokens;
  cached_tokens += other.cached_tokens;
  restored_tokens += other.restored_tokens;
  degraded_pairs += other.degraded_pairs;
  preemptions += other.preemptions;
  steps += other.steps;
  rows += other.rows;
  split_steps += other.split_steps;
}

Batcher::Batcher(model::Backbone& backbone, model::ExpertBackend& experts,
                 const model::KvPool& pool, const tokenizer::Tokenizer& tokenizer,
                 const kernels::Compute& compute, const BatcherOptions& options, KvFile* file)
    : config_(backbone.config()),
      tokenizer_(tokenizer),
      options_(options),
      pool_(pool),
      file_(file),
      restores_max_(std::max<std::size_t>(1, kRestoreBytes / pool.block_bytes())),
      blocks_(pool.blocks(), file),
      forward_(backbone, experts, pool),
      samplers_(compute),
      pace_(options.prefill_slowdown_max),
      experts_(experts) {
  options_.step_rows_max = std::max(1u, options_.step_rows_max);
  options_.sequences_max = std::clamp(options_.sequences_max, 1u, options_.step_rows_max);
  stats_.kv_tokens_max = std::uint64_t{blocks_.total()} * model::kKvBlockTokens;
}

Batcher::~Batcher() = default;

base::Result<SequenceId> Batcher::submit(SequenceRequest request) {
  CONCLAVE_TRY_VOID(check_request(request, config_));
  if (waiting_.size() - preempted_ + pending_.size() >= options_.waiting_max) {
    return fail(ErrorCode::kOverloaded,
                std::to_string(options_.waiting_max) + " requests are waiting already");
  }
  auto sequence =
      std::make_unique<SequenceState>(SequenceId{next_id_}, std::move(request), config_, tokenizer_,
                                      options_.prefix_cache, options_.prefill_burst_tokens);
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
    waiting_.emplace(sequence->rank(), std::move(sequence));
  }
  return id;
}

bool Batcher::cancel(SequenceId id) {
  const auto waiting =
      std::ranges::find(waiting_, id, [](const auto& entry) { return entry.first.id; });
  const auto running = std::ranges::find(running_, id, &SequenceState::id);
  TokenEvent event;
  event.id = id;
  event.finish = FinishReason::kCancelled;
  if (waiting != waiting_.end()) {
    event.cached_tokens = waiting->second->cached_tokens();
    waiting->second->say_cost(event);
    if (waiting->second->was_preempted()) --preempted_;
    waiting_.erase(waiting);
  } else if (running != running_.end()) {
    event.cached_tokens = (*running)->cached_tokens();
    (*running)->say_cost(event);
    drop_chunk(**running);
    (*running)->leave(blocks_);
    running_.erase(running);
  } else {
    return false;
  }
  pending_.push_back(std::move(event));
  return true;
}

bool Batcher::has_work() const {
  return !pending_.empty() || !running_.empty() || !waiting_.empty();
}

bool Batcher::populate() {
  const auto some = static_cast<std::uint32_t>(
      std::clamp<std::size_t>(kPopulateBytes / pool_.block_bytes(), 1, blocks_.total()));
  const std::uint32_t count = std::min(some, blocks_.total() - populated_);
  if (count == 0 || !pool_.populate(populated_, count)) return false;
  populated_ += count;
  stats_.kv_tokens_populated = std::uint64_t{populated_} * model::kKvBlockTokens;
  return true;
}

std::span<TokenEvent> Batcher::step() {
  events_.clear();
  std::swap(events_, pending_);
  grow();
  admit();
  fill_step();
  if (rows_.empty()) return events_;
  ++stats_.steps;
  stats_.rows += through_;
  std::optional<Passage> passage;
  if (work_ > 0) passage = {through_, chunk_->begin, chunk_->end};
  const std::size_t batches = micro_batches();
  if (batches > 1) ++stats_.split_steps;
  const auto logits = forward_.step(rows_, passage, batches);
  has_failed_ = !logits;
  if (logits) {
    if (work_ > 0) finish_chunk();
    samplers_.for_each(shares_.size(), [&](std::size_t share, Sampler& sampler) {
      judge(shares_[share], sampler, *logits);
    });
    for (Share& share : shares_) finish_share(share);
  } else {
    if (work_ > 0) {
      shares_.push_back(std::move(chunk_->share));
      chunk_.reset();
    }
    for (Share& share : shares_) fail_share(share, logits.error());
  }
  remove_finished();
  return events_;
}

std::size_t Batcher::micro_batches() {
  if (options_.micro_batches_max < 2 || !experts_.is_remote()) return 1;
  // Beside a chunk in few layers one half would have nearly all the rows.
  return work_ > 0 ? 1 : overlap_.micro_batches(through_);
}

void Batcher::step_took(std::chrono::nanoseconds duration) {
  if (has_failed_) return;
  overlap_.took(duration);
  const auto decodes = static_cast<std::uint32_t>(decodes_);
  if (unpaced_ > 0) {
    pace_.was_exceeded(decodes);
  } else {
    pace_.took(duration, decodes, work_);
  }
}

BatcherStats Batcher::stats() const {
  BatcherStats now = stats_;
  now.kv_tokens_used = std::uint64_t{blocks_.total() - blocks_.free()} * model::kKvBlockTokens;
  now.kv_tokens_known = std::uint64_t{blocks_.known()} * model::kKvBlockTokens;
  if (file_ != nullptr) now.kv_tokens_filed = file_->blocks() * model::kKvBlockTokens;
  now.running = running_.size();
  now.waiting = waiting_.size();
  return now;
}

// Those that decode need a block every 16 tokens. One that is alone always gets it: submit() has
// seen that it fits.
void Batcher::grow() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    while (i < running_.size() && !running_[i]->grow(blocks_)) preempt_last();
  }
}

void Batcher::preempt_last() {
  Sequence last = std::move(running_.back());
  running_.pop_back();
  drop_chunk(*last);
  last->leave(blocks_);
  last->note_preemption();
  ++preempted_;
  ++stats_.preemptions;
  waiting_.emplace(last->rank(), std::move(last));
}

// In order: the first that does not fit holds up those behind it, or large ones would starve.
void Batcher::admit() {
  while (!waiting_.empty()) {
    Sequence& first = waiting_.begin()->second;
    const std::uint32_t cached = first->cached_tokens();
    while (running_.size() == options_.sequences_max || !enter(*first)) {
      const bool takes_place = !running_.empty() &&
                               running_.back()->priority() > first->priority() &&
                               running_.back()->rank() > first->rank();
      if (!takes_place) return;
      preempt_last();
    }
    if (first->was_preempted()) {
      --preempted_;
    } else if (options_.prefix_cache) {
      stats_.queried_tokens += first->prompt_tokens();
    }
    stats_.cached_tokens += first->cached_tokens() - cached;
    first->serve(stats_.steps);
    const auto place = std::ranges::upper_bound(running_, first->rank(), {}, &SequenceState::rank);
    running_.insert(place, std::move(first));
    waiting_.erase(waiting_.begin());
  }
}

// Blocks to spare: each that runs can take its next one, so that what is admitted is not preempted
// at once.
bool Batcher::enter(SequenceState& sequence) {
  return sequence.enter(blocks_, static_cast<std::uint32_t>(running_.size()));
}

// Sequences that are one row from their next token first: a token delayed is seen by its reader.
void Batcher::fill_step() {
  rows_.clear();
  shares_.clear();
  prompts_.clear();
  under_way_.clear();
  logits_rows_ = 0;
  prompt_logits_left_ = kPromptLogitsMax;
  for (const Sequence& sequence : running_) {
    if (sequence->rows_missing() == 1) {
      add_rows(*sequence, 1);
    } else {
      prompts_.push_back(sequence.get());
    }
  }
  decodes_ = rows_.size();
  const auto work = pace_.work(static_cast<std::uint32_t>(decodes_));
  fill_prompts(work);
  through_ = rows_.size();
  add_chunk(work);
}

// Prompts in turns; without `work` as many rows as the step takes.
void Batcher::fill_prompts(std::optional<std::uint32_t> work) {
  std::size_t rows_left = options_.step_rows_max - rows_.size();
  if (chunk_) {
    Share& share = chunk_->share;
    rows_left -= std::min<std::size_t>(rows_left, share.rows);
    prompt_logits_left_ -= chunk_->scores;
    std::erase(prompts_, share.sequence);
    const auto keys = share.sequence->next_keys(share.rows);
    under_way_.insert(under_way_.end(), keys.begin(), keys.end());
  }
  std::ranges::sort(prompts_, {}, [](const SequenceState* sequence) {
    const auto served = static_cast<std::int64_t>(sequence->served());
    return std::pair(served + sequence->priority() * kAgingSteps, sequence->rank());
  });
  std::size_t restores_left = restores_max_;
  const std::size_t burst_rows = burst_rows_of_step();
  unpaced_ = 0;
  for (SequenceState* sequence : prompts_) {
    if (catch_up(*sequence, restores_left) || is_under_way(*sequence)) {
      sequence->serve(stats_.steps + 1);  // another one keeps the lead
    } else if (!work) {
      const std::size_t rows = add_rows(*sequence, rows_left);
      rows_left -= rows;
      unpaced_ += rows;
    } else if (sequence->burst_left() > 0) {
      const std::size_t burst =
          std::min({rows_left, burst_rows - unpaced_, std::size_t{sequence->burst_left()}});
      const std::size_t rows = add_rows(*sequence, burst);
      sequence->use_burst(rows);
      rows_left -= rows;
      unpaced_ += rows;
    } else if (!chunk_ && (unpaced_ == 0 || rows_left >= kBurstRows)) {
      // What bursts leave may be a few rows, and those would pass layer by layer, too. It comes
      // before them in the next step.
      begin_chunk(*sequence, std::min<std::size_t>(rows_left, *work));
      if (chunk_) rows_left -= chunk_->share.rows;
    }
  }
}

// What turns out to be cached, or under way for another sequence, counts here, too.
std::size_t Batcher::burst_rows_of_step() const {
  std::size_t waiting = 0;
  for (const SequenceState* sequence : prompts_) {
    waiting += std::min(sequence->burst_left(), sequence->rows_missing());
  }
  return std::max(kBurstRows, waiting / 2);
}

// Passes over what is known of it, or in the file; true if it shall see in the next step whether
// the file has more of it.
bool Batcher::catch_up(SequenceState& sequence, std::size_t& restores_left) {
  const std::uint32_t cached = sequence.cached_tokens();
  sequence.skip_known(blocks_);
  std::uint32_t restored = 0;
  if (file_ != nullptr) {
    restored = sequence.restore(blocks_, *file_, restores_left);
    restores_left -= restored / model::kKvBlockTokens;
    stats_.restored_tokens += restored;
  }
  stats_.cached_tokens += sequence.cached_tokens() - cached;
  return restored > 0 || (restores_left == 0 && sequence.is_next_in(*file_));
}

// Its next block is computed for another sequence in this very step.
bool Batcher::is_under_way(SequenceState& sequence) const {
  const auto next = sequence.next_shared();
  return next && std::ranges::find(under_way_, *next) != under_way_.end();
}

// As many of the missing rows as fit; returns how many.
std::size_t Batcher::add_rows(SequenceState& sequence, std::size_t rows_max) {
  Share share = share_of(sequence, rows_max);
  if (share.rows == 0) return 0;
  place_rows(share);
  place_logits(share);
  const auto keys = sequence.next_keys(share.rows);
  under_way_.insert(under_way_.end(), keys.begin(), keys.end());
  shares_.push_back(std::move(share));
  return shares_.back().rows;
}

// A chunk whose first layer is as much work as a step has, in whole blocks, and which fits into
// each step to come, however many decode by then.
void Batcher::begin_chunk(SequenceState& sequence, std::size_t rows_max) {
  const std::size_t always = std::max(1u, options_.step_rows_max - options_.sequences_max);
  rows_max = std::min({rows_max, always, kChunkRows});
  if (rows_max > model::kKvBlockTokens) rows_max -= rows_max % model::kKvBlockTokens;
  const std::size_t logits = prompt_logits_left_;
  Share share = share_of(sequence, rows_max);
  if (share.rows == 0) return;
  const auto scores = static_cast<std::uint32_t>(logits - prompt_logits_left_);
  chunk_ = Chunk{std::move(share), scores, 0, 0};
}

// Its rows come last, for as many layers as there is work for: at least one, or all. The last layer
// comes along with the one before, as only rows that want logits have more than attention there.
void Batcher::add_chunk(std::optional<std::uint32_t> work) {
  work_ = 0;
  if (!chunk_ || work == 0u) return;
  Share& share = chunk_->share;
  const std::uint32_t all = config_.layers;
  const std::uint32_t busy = chunk_->scores > 0 ? all : std::max(1u, all - 1);
  const std::uint32_t layers = work ? std::clamp(*work / share.rows, 1u, busy) : busy;
  chunk_->begin = chunk_->end;
  const std::uint32_t busy_end = std::min(busy, chunk_->begin + layers);
  chunk_->end = busy_end == busy ? all : busy_end;
  work_ = share.rows * (busy_end - chunk_->begin);
  place_rows(share);
  if (chunk_->end == config_.layers) place_logits(share);
}

// The next rows of a sequence, as far as they fit.
Batcher::Share Batcher::share_of(SequenceState& sequence, std::size_t rows_max) {
  const auto most =
      static_cast<std::uint32_t>(std::min<std::size_t>(sequence.rows_missing(), rows_max));
  Share share{&sequence, sequence.computed(), 0, 0, 0, {}};
  for (; share.rows < most; ++share.rows) {
    if (!sequence.scores(share.position + share.rows)) continue;
    if (prompt_logits_left_ == 0) break;
    --prompt_logits_left_;
  }
  if (share.rows > 0) {
    sequence.take(blocks_, share.rows);
    sequence.serve(stats_.steps + 1);
  }
  return share;
}

void Batcher::place_rows(Share& share) {
  share.first = rows_.size();
  for (std::uint32_t i = 0; i < share.rows; ++i) {
    const std::uint32_t position = share.position + i;
    rows_.push_back({share.sequence->token(position), position, share.sequence->blocks(), false});
  }
}

void Batcher::place_logits(Share& share) {
  const SequenceState& sequence = *share.sequence;
  share.logits = logits_rows_;
  for (std::uint32_t i = 0; i < share.rows; ++i) {
    const std::uint32_t position = share.position + i;
    if (!sequence.scores(position) && !sequence.draws(position)) continue;
    rows_[share.first + i].wants_logits = true;
    ++logits_rows_;
  }
}

// It goes away, and with it what passes layers.
void Batcher::drop_chunk(const SequenceState& sequence) {
  if (chunk_ && chunk_->share.sequence == &sequence) chunk_.reset();
}

// On any thread: it touches the sequence of this share and nothing else.
void Batcher::judge(Share& share, Sampler& sampler, std::span<const float> logits) const {
  SequenceState& sequence = *share.sequence;
  const std::size_t vocab = config_.vocab;
  std::size_t row = share.logits;
  const auto next_logits = [&] { return logits.subspan(row++ * vocab, vocab); };
  for (std::uint32_t i = 0; i < share.rows && !sequence.finished(); ++i) {
    const std::uint32_t position = share.position + i;
    if (sequence.scores(position)) {
      sequence.score(sampler, position, next_logits(), share.event);
    } else if (sequence.draws(position)) {
      sequence.draw(sampler, next_logits(), share.event);
      break;
    }
  }
}

// What it has of this step; at its last layer it is a share like others.
void Batcher::finish_chunk() {
  Share& share = chunk_->share;
  if (chunk_->end == config_.layers) {
    stats_.rows += share.rows;
    shares_.push_back(std::move(share));
    chunk_.reset();
  } else {
    note_replaced(share);
    share.sequence->note_cost(forward_.cost(share.first, share.rows));
  }
}

void Batcher::finish_share(Share& share) {
  SequenceState& sequence = *share.sequence;
  TokenEvent& event = share.event;
  event.id = sequence.id();
  event.cached_tokens = sequence.cached_tokens();
  note_replaced(share);
  sequence.note_cost(forward_.cost(share.first, share.rows));
  note_computed(share);
  sequence.advance(blocks_, share.rows);
  if (!sequence.finished()) sequence.finish_scoring(event);
  if (event.token != tokenizer::kNoToken) ++stats_.generated_tokens;
  const bool says_something = event.token != tokenizer::kNoToken || !event.prompt.empty() ||
                              event.finish != FinishReason::kNone;
  if (!says_something) return;
  event.degraded = sequence.take_degraded();
  sequence.say_cost(event);
  events_.push_back(std::move(event));
}

void Batcher::note_computed(const Share& share) {
  for (std::uint32_t i = 0; i < share.rows; ++i) {
    const std::uint32_t position = share.position + i;
    if (share.sequence->is_again(position)) {
      ++stats_.recomputed_tokens;
    } else if (share.sequence->is_prompt(position)) {
      ++stats_.prompt_tokens;
    }
  }
}

// Before its rows are there for others.
void Batcher::note_replaced(const Share& share) {
  const auto replaced = forward_.replaced();
  if (replaced.empty()) return;
  const auto rows = replaced.subspan(share.first, share.rows);
  const std::uint32_t pairs = std::accumulate(rows.begin(), rows.end(), 0u);
  if (pairs > 0) share.sequence->note_degraded(pairs);
  stats_.degraded_pairs += pairs;
}

void Batcher::fail_share(Share& share, const base::Error& error) {
  share.sequence->finish();
  TokenEvent& event = events_.emplace_back();
  event.id = share.sequence->id();
  event.cached_tokens = share.sequence->cached_tokens();
  share.sequence->say_cost(event);
  event.finish = FinishReason::kError;
  event.error = error;
}

void Batcher::remove_finished() {
  std::erase_if(running_, [this](const auto& sequence) {
    if (sequence->finished()) sequence->leave(blocks_);
    return sequence->finished();
  });
}

}  // namespace conclave::engine
