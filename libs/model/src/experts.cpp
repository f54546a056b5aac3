#include "conclave/model/experts.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "activation.hpp"
#include "parallel_load.hpp"

namespace conclave::model {

using base::ErrorCode;
using base::fail;
using base::Status;

LocalExperts::LocalExperts(const ModelConfig& config, const kernels::Compute& compute)
    : config_(config), compute_(compute) {}

base::Result<std::unique_ptr<LocalExperts>> LocalExperts::load(const gguf::File& file,
                                                               const ModelConfig& config,
                                                               const kernels::Compute& compute,
                                                               const Progress& progress) {
  std::unique_ptr<LocalExperts> all(new LocalExperts(config, compute));
  const std::size_t total = std::size_t{config.layers - config.dense_layers} * config.gate.experts;
  all->experts_.resize(total);
  CONCLAVE_TRY_VOID(load_parallel(compute.pool, total, progress, [&](std::size_t i) -> Status {
    const auto layer = static_cast<std::uint32_t>(i / config.gate.experts);
    const auto index = static_cast<std::uint32_t>(i % config.gate.experts);
    CONCLAVE_TRY(all->experts_[i], load_expert(file, config, {config.dense_layers + layer, index}));
    return {};
  }));
  return all;
}

std::size_t LocalExperts::bytes() const {
  return std::accumulate(experts_.begin(), experts_.end(), std::size_t{0},
                         [](std::size_t sum, const Expert& e) { return sum + e.bytes(); });
}

Status LocalExperts::run(std::uint32_t layer, const float* x, std::size_t rows,
                         std::span<const ExpertPair> pairs, float* y) {
  CONCLAVE_TRY_VOID(group(layer, rows, pairs));
  run_up(layer, x, rows);
  run_down(layer, pairs, y);
  return {};
}

// A counting sort of the pairs by expert; it keeps the order of equal ones.
Status LocalExperts::group(std::uint32_t layer, std::size_t rows,
                           std::span<const ExpertPair> pairs) {
  if (layer < config_.dense_layers || layer >= config_.layers) {
    return fail(ErrorCode::kInvalidArgument,
                "layer " + std::to_string(layer) + " has no routed experts");
  }
  first_.assign(config_.gate.experts + 1, 0);
  for (const ExpertPair& pair : pairs) {
    if (pair.row >= rows || pair.expert >= config_.gate.experts) {
      return fail(ErrorCode::kInvalidArgument, "no row " + std::to_string(pair.row) +
                                                   " or no expert " + std::to_string(pair.expert) +
                                                   " in layer " + std::to_string(layer));
    }
    ++first_[pair.expert + 1];
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  order_.resize(pairs.size());
  rows_.resize(pairs.size());
  std::vector<std::uint32_t> next(first_.begin(), first_.end() - 1);
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const std::uint32_t at = next[pairs[p].expert]++;
    order_[at] = static_cast<std::uint32_t>(p);
    rows_[at] = pairs[p].row;
  }
  return {};
}

void LocalExperts::run_up(std::uint32_t layer, const float* x, std::size_t rows) {
  const std::size_t ffn = config_.expert_ffn;
  gate_.resize(order_.size() * ffn);
  up_.resize(order_.size() * ffn);
  SharedRows shared(compute_, x, rows, config_.hidden, x_quantized_);
  std::vector<kernels::Product> products;
  for (std::uint32_t e = 0; e < config_.gate.experts; ++e) {
    const std::size_t begin = first_[e];
    const std::size_t count = first_[e + 1] - begin;
    if (count == 0) continue;
    const Expert& weights = expert(layer, e);
    const auto add = [&](const Linear& linear, float* out) {
      products.push_back({&linear.weight, shared.for_weights(linear.weight), rows_.data() + begin,
                          count, out + begin * ffn, ffn});
    };
    add(weights.gate, gate_.data());
    add(weights.up, up_.data());
  }
  kernels::matmul(compute_, products);
}

void LocalExperts::run_down(std::uint32_t layer, std::span<const ExpertPair> pairs, float* y) {
  const std::size_t ffn = config_.expert_ffn;
  const std::size_t hidden = config_.hidden;
  compute_.pool.for_each(order_.size(), [&](std::size_t i, unsigned) {
    const Expert& weights = expert(layer, pairs[order_[i]].expert);
    add_bias(compute_, weights.gate.bias, gate_.data() + i * ffn);
    add_bias(compute_, weights.up.bias, up_.data() + i * ffn);
    activate(compute_.kernels, config_.architecture->activation, gate_.data() + i * ffn,
             up_.data() + i * ffn, ffn);
  });
  down_.resize(order_.size() * hidden);
  SharedRows shared(compute_, gate_.data(), order_.size(), ffn, h_quantized_);
  std::vector<kernels::Product> products;
  std::vector<std::uint32_t> identity(order_.size());
  std::iota(identity.begin(), identity.end(), 0u);
  for (std::uint32_t e = 0; e < config_.gate.experts; ++e) {
    const std::size_t begin = first_[e];
    const std::size_t count = first_[e + 1] - begin;
    if (count == 0) continue;
    const kernels::PackedMatrix& weight = expert(layer, e).down.weight;
    products.push_back({&weight, shared.for_weights(weight), identity.data() + begin, count,
                        down_.data() + begin * hidden, hidden});
  }
  kernels::matmul(compute_, products);
  compute_.pool.for_each(order_.size(), [&](std::size_t i, unsigned) {
    float* out = y + order_[i] * hidden;
    std::copy_n(down_.data() + i * hidden, hidden, out);
    add_bias(compute_, expert(layer, pairs[order_[i]].expert).down.bias, out);
  });
}

}  // namespace conclave::model
