#include "conclave/engine/forward.hpp"

#include <algorithm>
#include <string>

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
  cost_ = {};
  passage_cost_ = {};
  const std::uint64_t device_us = experts_.device_us();
  CONCLAVE_TRY_VOID(prepare(rows));
  x_.resize(rows.size() * config.hidden);
  h_.resize(x_.size());
  enter(part.first, part.begin > 0);
  backbone_.begin_step(places_, part.first, pool_);
  CONCLAVE_TRY_VOID(layers(rows.size(), part));
  share_cost(experts_.device_us() - device_us);
  if (part.end < config.layers) {
    held_.assign(x_.begin() + static_cast<std::ptrdiff_t>(part.first * config.hidden), x_.end());
  }
  logits_.resize(selected_.size() * config.vocab);
  if (!selected_.empty()) backbone_.logits(selected_, x_.data(), logits_.data());
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
    const std::size_t here = all ? rows : passage.first;
    if (here == 0) continue;
    backbone_.use_rows(all);
    backbone_.attention(layer, x_.data());
    backbone_.normalize_ffn(layer, x_.data(), h_.data());
    if (config.has_experts(layer)) {
      CONCLAVE_TRY_VOID(experts(layer, here));
      cost_.pairs += passage.first * config.gate.used;
      passage_cost_.pairs += (here - passage.first) * config.gate.used;
    } else {
      backbone_.dense(layer, h_.data(), x_.data());
    }
  }
  return {};
}

// By pairs, in whole microseconds that add up.
void Forward::share_cost(std::uint64_t device_us) {
  const std::uint64_t pairs = cost_.pairs + passage_cost_.pairs;
  passage_cost_.device_us = pairs == 0 ? 0 : device_us * passage_cost_.pairs / pairs;
  cost_.device_us = device_us - passage_cost_.device_us;
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
  if (!routing_.replaced.empty()) {
    replaced_.resize(tokens_.size(), 0);
    for (std::size_t row = 0; row < rows; ++row) replaced_[row] += routing_.replaced[row];
  }
  backbone_.combine(layer, routing_, outputs_, h_.data(), x_.data());
  return {};
}

}  // namespace conclave::engine
