#include "conclave/engine/forward.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::engine {

using base::ErrorCode;
using base::fail;

base::Status Forward::prepare(std::span<const StepRow> rows) {
  tokens_.clear();
  places_.clear();
  selected_.clear();
  for (const StepRow& row : rows) {
    if (row.token < 0 || static_cast<std::uint32_t>(row.token) >= backbone_.config().vocab) {
      return fail(ErrorCode::kInvalidArgument, "token " + std::to_string(row.token) +
                                                   " is outside the vocabulary of " +
                                                   std::to_string(backbone_.config().vocab));
    }
    if (row.position / model::kKvBlockTokens >= row.blocks.size()) {
      return fail(ErrorCode::kInvalidArgument,
                  "position " + std::to_string(row.position) + " is outside the " +
                      std::to_string(row.blocks.size()) + " blocks of its sequence");
    }
    if (row.wants_logits) selected_.push_back(static_cast<std::uint32_t>(tokens_.size()));
    tokens_.push_back(row.token);
    places_.push_back({row.blocks, row.position});
  }
  return {};
}

base::Result<std::span<const float>> Forward::step(std::span<const StepRow> rows,
                                                   const std::optional<Passage>& passage,
                                                   std::size_t micro_batches) {
  const model::ModelConfig& config = backbone_.config();
  const Passage part = passage.value_or(Passage{rows.size(), 0, config.layers});
  replaced_.clear();
  row_pairs_.assign(rows.size(), 0);
  const std::uint64_t device_us = experts_.device_us();
  CONCLAVE_TRY_VOID(prepare(rows));
  x_.resize(rows.size() * config.hidden);
  h_.resize(x_.size());
  enter(part.first, part.begin > 0);
  split(rows.size(), part, micro_batches);
  const base::Status status = layers();
  experts_.end_step();
  CONCLAVE_TRY_VOID(status);
  cost_ = {std::accumulate(row_pairs_.begin(), row_pairs_.end(), std::uint64_t{0}),
           experts_.device_us() - device_us};
  if (part.end < config.layers) {
    held_.assign(x_.begin() + static_cast<std::ptrdiff_t>(part.first * config.hidden), x_.end());
  }
  logits_.resize(selected_.size() * config.vocab);
  if (!selected_.empty()) {
    gather_selected();
    backbone_.logits(selected_.size(), x_.data(), logits_.data());
  }
  return std::span<const float>(logits_);
}

// x of the rows as they come into the step: embeddings, or what a passage had come to.
void Forward::enter(std::size_t through, bool goes_on) {
  backbone_.embed(std::span(tokens_).first(goes_on ? through : tokens_.size()), x_.data());
  if (goes_on) {
    const std::size_t at = through * backbone_.config().hidden;
    CONCLAVE_CHECK(held_.size() == x_.size() - at);
    std::ranges::copy(held_, x_.data() + at);
  }
}

// Halves of the rows that pass all layers; the others, which are the last, go with the second one.
void Forward::split(std::size_t rows, const Passage& part, std::size_t micro_batches) {
  batch_count_ = part.first < 2 || observer_ != nullptr ? 1 : micro_batches;
  CONCLAVE_CHECK(batch_count_ >= 1 && batch_count_ <= batches_.size());
  const std::size_t hidden = backbone_.config().hidden;
  auto selected = selected_.begin();
  std::size_t first = 0;
  for (std::size_t i = 0; i < batch_count_; ++i) {
    MicroBatch& batch = batches_[i];
    const std::size_t through = part.first * (i + 1) / batch_count_ - first;
    batch.first = first;
    batch.rows = i + 1 == batch_count_ ? rows - first : through;
    batch.part = {through, part.begin, part.end};
    const auto end = std::lower_bound(selected, selected_.end(), first + batch.rows);
    batch.selected = {selected, end};
    for (std::uint32_t& row : batch.selected) row -= static_cast<std::uint32_t>(first);
    batch.only_selected = false;
    batch.waits = false;
    batch.x = x_.data() + first * hidden;
    batch.h = h_.data() + first * hidden;
    backbone_.begin_step(batch.step, std::span(places_).subspan(first, batch.rows), through, pool_);
    selected = end;
    first += batch.rows;
  }
}

// Each micro-batch comes to a layer when its experts of the one before are done, which had all the
// time that the other micro-batch took for its own.
base::Status Forward::layers() {
  const std::uint32_t layers = backbone_.config().layers;
  for (std::uint32_t layer = 0; layer <= layers; ++layer) {
    for (std::size_t batch = 0; batch < batch_count_; ++batch) {
      CONCLAVE_TRY_VOID(finish_experts(batch));
      if (layer < layers) enter_layer(batch, layer);
    }
  }
  return {};
}

void Forward::enter_layer(std::size_t index, std::uint32_t layer) {
  const model::ModelConfig& config = backbone_.config();
  MicroBatch& batch = batches_[index];
  const bool all = layer >= batch.part.begin && layer < batch.part.end;
  std::size_t here = all ? batch.rows : batch.part.first;
  if (here == 0) return;
  batch.step.use_rows(all);
  backbone_.attention(batch.step, layer, batch.x);
  if (layer + 1 == config.layers && observer_ == nullptr) {
    keep_selected(batch);
    here = batch.selected.size();
    if (here == 0) return;
  }
  backbone_.normalize_ffn(batch.step, layer, batch.x, batch.h);
  batch.layer = layer;
  if (config.has_experts(layer)) {
    start_experts(index);
  } else {
    backbone_.dense(batch.step, layer, batch.h, batch.x);
  }
}

// From here on the micro-batch is about its rows that want logits: the first ones of its x now.
void Forward::keep_selected(MicroBatch& batch) {
  if (std::exchange(batch.only_selected, true)) return;
  const std::size_t hidden = backbone_.config().hidden;
  for (std::size_t i = 0; i < batch.selected.size(); ++i) {
    if (batch.selected[i] == i) continue;  // none stands behind its new place
    std::copy_n(batch.x + batch.selected[i] * hidden, hidden, batch.x + i * hidden);
  }
  batch.step.use_first_rows(batch.selected.size());
}

// x of all rows that want logits, one micro-batch behind the other.
void Forward::gather_selected() {
  const std::size_t hidden = backbone_.config().hidden;
  float* at = x_.data();
  for (MicroBatch& batch : std::span(batches_).first(batch_count_)) {
    keep_selected(batch);
    const std::size_t numbers = batch.selected.size() * hidden;
    if (at != batch.x) std::copy_n(batch.x, numbers, at);
    at += numbers;
  }
}

// Of the layer that it leaves.
void Forward::note_pairs(const MicroBatch& batch) {
  const std::uint32_t used = backbone_.config().gate.used;
  for (std::size_t row = 0; row < batch.pairs.size() / used; ++row) {
    row_pairs_[row_of_step(batch, row)] += used;
  }
}

StepCost Forward::cost(std::size_t first, std::size_t count) const {
  const auto begin = row_pairs_.begin() + static_cast<std::ptrdiff_t>(first);
  const std::uint64_t before = std::accumulate(row_pairs_.begin(), begin, std::uint64_t{0});
  const std::uint64_t pairs =
      std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), std::uint64_t{0});
  if (pairs == 0) return {};
  const auto until = [this](std::uint64_t share) { return cost_.device_us * share / cost_.pairs; };
  return {pairs, until(before + pairs) - until(before)};
}

void Forward::start_experts(std::size_t index) {
  const model::ModelConfig& config = backbone_.config();
  MicroBatch& batch = batches_[index];
  batch.absences = experts_.absences();
  backbone_.route(batch.step, batch.layer, batch.h, experts_.absent(batch.layer), batch.routing);
  batch.pairs.clear();
  for (std::size_t pair = 0; pair < batch.routing.experts.size(); ++pair) {
    batch.pairs.push_back(
        {static_cast<std::uint32_t>(pair / config.gate.used), batch.routing.experts[pair]});
  }
  batch.outputs.resize(batch.pairs.size());
  experts_.start(index, batch.layer, batch.h, batch.pairs.size() / config.gate.used, batch.pairs);
  batch.waits = true;
}

// Again as often as the backend finds more experts absent, which it does at most once for each.
base::Status Forward::finish_experts(std::size_t index) {
  MicroBatch& batch = batches_[index];
  if (!batch.waits) return {};
  for (;;) {
    const base::Status status = experts_.finish(index, batch.outputs);
    if (status) break;
    const bool gate_again =
        status.error().code == ErrorCode::kUnavailable && experts_.absences() != batch.absences;
    if (!gate_again) return status;
    start_experts(index);
  }
  batch.waits = false;
  if (observer_ != nullptr) observer_->routed(batch.layer, batch.routing);
  if (!batch.routing.replaced.empty()) note_replaced(batch);
  backbone_.combine(batch.step, batch.layer, batch.routing, batch.outputs, batch.h, batch.x);
  note_pairs(batch);
  return {};
}

void Forward::note_replaced(const MicroBatch& batch) {
  replaced_.resize(tokens_.size(), 0);
  for (std::size_t row = 0; row < batch.routing.replaced.size(); ++row) {
    replaced_[row_of_step(batch, row)] += batch.routing.replaced[row];
  }
}

}  // namespace conclave::engine
