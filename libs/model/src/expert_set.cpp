#include "conclave/model/expert_set.hpp"

#include <string>
#include <utility>

#include "activation.hpp"

namespace conclave::model {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

template <class Vector>
void grow(Vector& vector, std::size_t size) {
  if (vector.size() < size) vector.resize(size);
}

bool has_shape(const Linear& linear, std::size_t outputs, std::size_t inputs) {
  return linear.weight.outputs() == outputs && linear.weight.inputs() == inputs &&
         (linear.bias.empty() || linear.bias.size() == outputs);
}

bool takes_quantized(const Linear& linear) {
  return kernels::takes_quantized_rows(linear.weight.type());
}

std::string name_of(ExpertId id) {
  return "expert " + std::to_string(id.index) + " of layer " + std::to_string(id.layer);
}

}  // namespace

ExpertSet::ExpertSet(const ModelConfig& config, const kernels::Compute& compute)
    : config_(config),
      compute_(compute),
      experts_(std::size_t{config.layers - config.dense_layers} * config.gate.experts) {}

const Expert* ExpertSet::find(ExpertId id) const {
  if (id.layer < config_.dense_layers || id.layer >= config_.layers ||
      id.index >= config_.gate.experts) {
    return nullptr;
  }
  return experts_[std::size_t{id.layer - config_.dense_layers} * config_.gate.experts + id.index]
      .get();
}

Status ExpertSet::insert(ExpertId id, Expert expert) {
  if (id.layer < config_.dense_layers || id.layer >= config_.layers ||
      id.index >= config_.gate.experts) {
    return fail(ErrorCode::kInvalidArgument, "the model has no " + name_of(id));
  }
  if (!has_shape(expert.gate, config_.expert_ffn, config_.hidden) ||
      !has_shape(expert.up, config_.expert_ffn, config_.hidden) ||
      !has_shape(expert.down, config_.hidden, config_.expert_ffn)) {
    return fail(ErrorCode::kInvalidArgument, name_of(id) + " has not the shape of the model's");
  }
  erase(id);
  bytes_ += expert.bytes();
  ++size_;
  experts_[std::size_t{id.layer - config_.dense_layers} * config_.gate.experts + id.index] =
      std::make_unique<Expert>(std::move(expert));
  return {};
}

bool ExpertSet::erase(ExpertId id) {
  const Expert* hosted = find(id);
  if (hosted == nullptr) return false;
  bytes_ -= hosted->bytes();
  --size_;
  experts_[std::size_t{id.layer - config_.dense_layers} * config_.gate.experts + id.index].reset();
  return true;
}

Status ExpertSet::run(std::uint32_t layer, const kernels::RowsView& x,
                      std::span<const ExpertPair> pairs, float* y) {
  CONCLAVE_TRY_VOID(group(layer, x, pairs));
  if (pairs.empty()) return {};
  kernels::RowsView rows = x;
  CONCLAVE_TRY_VOID(complete_rows(rows));
  run_up(rows);
  activate_rows();
  run_down(y);
  return {};
}

// groups_, rows_ and expert_of_ from the pairs, which are checked on the way.
Status ExpertSet::group(std::uint32_t layer, const kernels::RowsView& x,
                        std::span<const ExpertPair> pairs) {
  if (layer < config_.dense_layers || layer >= config_.layers) {
    return fail(ErrorCode::kInvalidArgument,
                "layer " + std::to_string(layer) + " has no routed experts");
  }
  if (x.columns != config_.hidden) {
    return fail(ErrorCode::kInvalidArgument, "rows of " + std::to_string(x.columns) +
                                                 " values for a model of " +
                                                 std::to_string(config_.hidden));
  }
  groups_.clear();
  rows_.resize(pairs.size());
  expert_of_.resize(pairs.size());
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const ExpertPair& pair = pairs[p];
    const bool same = p > 0 && pairs[p - 1].expert == pair.expert;
    const bool sorted =
        p == 0 || pairs[p - 1].expert < pair.expert || (same && pairs[p - 1].row <= pair.row);
    if (!sorted || pair.row >= x.rows || pair.expert >= config_.gate.experts) {
      return fail(ErrorCode::kInvalidArgument,
                  "pair " + std::to_string(p) + " (row " + std::to_string(pair.row) + ", expert " +
                      std::to_string(pair.expert) +
                      (sorted ? ") is out of range" : ") is unsorted"));
    }
    if (!same) {
      const Expert* expert = find({layer, pair.expert});
      if (expert == nullptr) {
        return fail(ErrorCode::kNotFound, name_of({layer, pair.expert}) + " is not hosted here");
      }
      groups_.push_back({expert, p, 0});
    }
    ++groups_.back().count;
    rows_[p] = pair.row;
    expert_of_[p] = groups_.back().expert;
  }
  return {};
}

// Offsets that did not travel, and a check that every form that the groups need is there.
Status ExpertSet::complete_rows(kernels::RowsView& x) {
  RowForms needed;
  for (const Group& group : groups_) {
    for (const Linear* linear : {&group.expert->gate, &group.expert->up}) {
      (takes_quantized(*linear) ? needed.quantized : needed.floats) = true;
    }
  }
  if (needed.floats && x.values == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "the experts of this layer take float rows");
  }
  if (!needed.quantized) return {};
  if (x.quants == nullptr || x.scales == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "the experts of this layer take 8-bit rows");
  }
  if (x.offsets == nullptr) {
    grow(offsets_, x.rows * (x.columns / kernels::kSumBlock));
    kernels::offsets_of(x.quants, x.rows, x.columns, offsets_.data());
    x.offsets = offsets_.data();
  }
  return {};
}

void ExpertSet::run_up(const kernels::RowsView& x) {
  const std::size_t ffn = config_.expert_ffn;
  grow(gate_, rows_.size() * ffn);
  grow(up_, rows_.size() * ffn);
  products_.clear();
  for (const Group& group : groups_) {
    const auto add = [&](const Linear& linear, float* out) {
      products_.push_back({&linear.weight, x, rows_.data() + group.first, group.count,
                           out + group.first * ffn, ffn});
    };
    add(group.expert->gate, gate_.data());
    add(group.expert->up, up_.data());
  }
  kernels::matmul(compute_, products_);
}

// gate_ = act(gate_ + bias, up_ + bias), and its 8-bit form where the next product takes it.
void ExpertSet::activate_rows() {
  const std::size_t ffn = config_.expert_ffn;
  bool quantize = false;
  for (const Group& group : groups_) quantize = quantize || takes_quantized(group.expert->down);
  if (quantize) inner_.resize(rows_.size(), ffn);
  compute_.pool.for_each(rows_.size(), [&](std::size_t p, unsigned) {
    const Expert& expert = *expert_of_[p];
    float* gate = gate_.data() + p * ffn;
    float* up = up_.data() + p * ffn;
    add_bias(compute_, expert.gate.bias, gate);
    add_bias(compute_, expert.up.bias, up);
    activate(compute_.kernels, config_.architecture->activation, gate, up, ffn);
    if (takes_quantized(expert.down)) {
      compute_.kernels.quantize_row(gate, ffn, inner_.quants(p), inner_.scales(p),
                                    inner_.offsets(p));
    }
  });
}

void ExpertSet::run_down(float* y) {
  const std::size_t hidden = config_.hidden;
  const kernels::RowsView floats{gate_.data(), nullptr,      nullptr,
                                 nullptr,      rows_.size(), config_.expert_ffn};
  bool any_bias = false;
  products_.clear();
  for (const Group& group : groups_) {
    const Linear& down = group.expert->down;
    const kernels::RowsView rows = takes_quantized(down) ? inner_.view(gate_.data()) : floats;
    products_.push_back({&down.weight, rows.slice(group.first, group.count), nullptr, group.count,
                         y + group.first * hidden, hidden});
    any_bias = any_bias || !down.bias.empty();
  }
  kernels::matmul(compute_, products_);
  if (!any_bias) return;
  compute_.pool.for_each(rows_.size(), [&](std::size_t p, unsigned) {
    add_bias(compute_, expert_of_[p]->down.bias, y + p * hidden);
  });
}

}  // namespace conclave::model
