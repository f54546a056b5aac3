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
                                                   const std::optional<Passage>& passage) {
  const model::ModelConfig& config = backbone_.config();
  const Passage part = passage.value_or(Passage{rows.size(), 0, config.layers});
  replaced_.clear();
  row_pairs_.assign(rows.size(), 0);
  only_selected_ = false;
  const std::uint64_t device_us = experts_.device_us();
  CONCLAVE_TRY_VOID(prepare(rows));
  x_.resize(rows.size() * config.hidden);
  h_.resize(x_.size());
  enter(part.first, part.begin > 0);
  backbone_.begin_step(places_, part.first, pool_);
  CONCLAVE_TRY_VOID(layers(rows.size(), part));
  cost_ = {std::accumulate(row_pairs_.begin(), row_pairs_.end(), std::uint64_t{0}),
           experts_.device_us() - device_us};
  if (part.end < config.layers) {
    held_.assign(x_.begin() + static_cast<std::ptrdiff_t>(part.first * config.hidden), x_.end());
  }
  logits_.resize(selected_.size() * config.vocab);
  if (!selected_.empty()) {
    keep_selected();
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

base::Status Forward::layers(std::size_t rows, const Passage& passage) {
  const model::ModelConfig& config = backbone_.config();
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    const bool all = layer >= passage.begin && layer < passage.end;
    std::size_t here = all ? rows : passage.first;
    if (here == 0) continue;
    backbone_.use_rows(all);
    backbone_.attention(layer, x_.data());
    if (layer + 1 == config.layers && observer_ == nullptr) {
      keep_selected();
      here = selected_.size();
      if (here == 0) break;
    }
    backbone_.normalize_ffn(layer, x_.data(), h_.data());
    if (config.has_experts(layer)) {
      CONCLAVE_TRY_VOID(experts(layer, here));
      note_pairs(here);
    } else {
      backbone_.dense(layer, h_.data(), x_.data());
    }
  }
  return {};
}

// From here on the step is about the rows that want logits: the first ones of x_ now.
void Forward::keep_selected() {
  if (std::exchange(only_selected_, true)) return;
  const std::size_t hidden = backbone_.config().hidden;
  for (std::size_t i = 0; i < selected_.size(); ++i) {
    if (selected_[i] == i) continue;  // none stands behind its new place
    std::copy_n(x_.data() + selected_[i] * hidden, hidden, x_.data() + i * hidden);
  }
  backbone_.use_first_rows(selected_.size());
}

// Of the layer at hand, whose `rows` rows all have as many.
void Forward::note_pairs(std::size_t rows) {
  for (std::size_t row = 0; row < rows; ++row) {
    row_pairs_[only_selected_ ? selected_[row] : row] += backbone_.config().gate.used;
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

// As often as the backend finds more experts absent, which it does at most once for each.
base::Status Forward::experts(std::uint32_t layer, std::size_t rows) {
  const model::ModelConfig& config = backbone_.config();
  for (;;) {
    const std::uint64_t absences = experts_.absences();
    backbone_.route(layer, h_.data(), experts_.absent(layer), routing_);
    pairs_.clear();
    for (std::size_t pair = 0; pair < routing_.experts.size(); ++pair) {
      pairs_.push_back(
          {static_cast<std::uint32_t>(pair / config.gate.used), routing_.experts[pair]});
    }
    outputs_.resize(pairs_.size());
    const base::Status status = experts_.run(layer, h_.data(), rows, pairs_, outputs_);
    if (status) break;
    const bool gate_again =
        status.error().code == ErrorCode::kUnavailable && experts_.absences() != absences;
    if (!gate_again) return status;
  }
  if (observer_ != nullptr) observer_->routed(layer, routing_);
  if (!routing_.replaced.empty()) note_replaced(rows);
  backbone_.combine(layer, routing_, outputs_, h_.data(), x_.data());
  return {};
}

void Forward::note_replaced(std::size_t rows) {
  replaced_.resize(tokens_.size(), 0);
  for (std::size_t row = 0; row < rows; ++row) {
    replaced_[only_selected_ ? selected_[row] : row] += routing_.replaced[row];
  }
}

}  // namespace conclave::engine
