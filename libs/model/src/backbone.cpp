#include "conclave/model/backbone.hpp"

#include <algorithm>

#include "activation.hpp"
#include "conclave/base/check.hpp"
#include "row_loop.hpp"

namespace conclave::model {

Backbone::Backbone(const gguf::File& file, const ModelConfig& config,
                   const kernels::Compute& compute)
    : file_(file), config_(config), compute_(compute), embedding_(file.find("token_embd.weight")) {}

std::size_t Backbone::bytes() const {
  std::size_t sum = head_.weight.bytes();
  for (const Layer& layer : layers_) {
    sum += layer.attention->bytes() + layer.gate.weight.bytes() + layer.ffn.gate.weight.bytes() +
           layer.ffn.up.weight.bytes() + layer.ffn.down.weight.bytes() +
           layer.shared_gate.weight.bytes();
  }
  return sum;
}

void Backbone::embed(std::span<const std::int32_t> tokens, float* x) const {
  const std::span<const std::byte> table = file_.bytes(*embedding_);
  const std::size_t row_bytes = table.size() / config_.vocab;
  each_row(compute_.pool, tokens.size(), config_.hidden, [&](std::size_t row) {
    const std::int32_t token = tokens[row];
    CONCLAVE_CHECK(token >= 0 && static_cast<std::uint32_t>(token) < config_.vocab);
    gguf::dequantize(embedding_->type,
                     table.subspan(static_cast<std::size_t>(token) * row_bytes, row_bytes),
                     std::span(x + row * config_.hidden, config_.hidden));
  });
}

void Backbone::begin_step(BackboneStep& step, std::span<const RowPlace> places, std::size_t through,
                          const KvPool& pool) {
  step.pool_ = &pool;
  step.places_.assign(places.begin(), places.end());
  step.all_.places = step.places_;
  step.through_.places = step.all_.places.first(through);
  step.use_rows(false);
  for (BackboneStep::Rows* rows : {&step.all_, step.now_}) {
    rows->plan.build(config_, rows->places, pool, compute_.pool.threads());
    if (step.now_ == &step.all_) break;
  }
  const std::size_t pairs = rope_->pairs();
  step.cos_.resize(places.size() * pairs);
  step.sin_.resize(step.cos_.size());
  // Extended precision costs some 300 plain numbers a pair.
  each_row(compute_.pool, places.size(), 300 * pairs, [&](std::size_t row) {
    rope_->angles(places[row].position, step.cos_.data() + row * pairs,
                  step.sin_.data() + row * pairs);
  });
  grow(normed_, places.size() * config_.hidden);
  grow(out_, places.size() * config_.hidden);
}

void Backbone::attention(BackboneStep& step, std::uint32_t index, float* x) {
  const std::size_t rows = step.rows_;
  CONCLAVE_CHECK(rows == step.now_->places.size());
  const Layer& layer = layers_[index];
  normalize(layer.attention_norm, rows, x, normed_.data());
  layer.attention->run(compute_,
                       {step.now_->places, step.pool_, step.cos_.data(), step.sin_.data(),
                        &step.now_->plan, &scratch_},
                       normed_.data(), out_.data());
  add_out(rows, x);
}

void Backbone::normalize_ffn(const BackboneStep& step, std::uint32_t index, const float* x,
                             float* h) {
  normalize(layers_[index].ffn_norm, step.rows_, x, h);
}

void Backbone::normalize(const std::vector<float>& weight, std::size_t rows, const float* x,
                         float* out) {
  const std::size_t hidden = config_.hidden;
  each_row(compute_.pool, rows, 2 * hidden, [&](std::size_t row) {
    compute_.kernels.rms_norm(x + row * hidden, weight.data(), hidden, config_.norm_eps,
                              out + row * hidden);
  });
}

void Backbone::route(const BackboneStep& step, std::uint32_t index, const float* h,
                     std::span<const std::uint8_t> absent, Routing& routing) {
  const std::size_t rows = step.rows_;
  const Layer& layer = layers_[index];
  const GateConfig& gate = config_.gate;
  router_logits_.resize(rows * gate.experts);
  routing.experts.resize(rows * gate.used);
  routing.weights.resize(rows * gate.used);
  routing.replaced.assign(absent.empty() ? 0 : rows, 0);
  SharedRows shared(compute_, h, rows, config_.hidden, quantized_);
  apply(compute_, layer.gate, shared, router_logits_.data());
  compute_.pool.for_shares(rows, [&](std::size_t row, unsigned) {
    const std::uint32_t replaced = select_present_experts(
        gate, compute_.kernels, router_logits_.data() + row * gate.experts, layer.gate_choice,
        absent, routing.experts.data() + row * gate.used, routing.weights.data() + row * gate.used);
    if (!absent.empty()) routing.replaced[row] = replaced;
  });
}

void Backbone::feed_forward(const FeedForward& ffn, std::size_t rows, const float* h) {
  const std::size_t width = ffn.up.outputs();
  gate_.resize(rows * width);
  up_.resize(rows * width);
  SharedRows shared(compute_, h, rows, config_.hidden, quantized_);
  apply(compute_, {{ffn.gate, gate_.data()}, {ffn.up, up_.data()}}, shared);
  each_row(compute_.pool, rows, 4 * width, [&](std::size_t row) {
    activate(compute_.kernels, ExpertActivation::kSwiglu, gate_.data() + row * width,
             up_.data() + row * width, width);
  });
  SharedRows inner(compute_, gate_.data(), rows, width, quantized_);
  apply(compute_, ffn.down, inner, out_.data());
}

void Backbone::dense(const BackboneStep& step, std::uint32_t index, const float* h, float* x) {
  feed_forward(layers_[index].ffn, step.rows_, h);
  add_out(step.rows_, x);
}

void Backbone::add_out(std::size_t rows, float* x) {
  each_row(compute_.pool, rows, config_.hidden, [&](std::size_t row) {
    const std::size_t at = row * config_.hidden;
    compute_.kernels.axpy(1.0f, out_.data() + at, config_.hidden, x + at);
  });
}

void Backbone::combine(const BackboneStep& step, std::uint32_t index, const Routing& routing,
                       std::span<const float* const> outputs, const float* h, float* x) {
  const std::size_t rows = step.rows_;
  const Layer& layer = layers_[index];
  const std::size_t hidden = config_.hidden;
  const bool shared = !layer.ffn.up.weight.empty();
  share_.assign(rows, 1.0f);
  if (shared) {
    feed_forward(layer.ffn, rows, h);
    if (!layer.shared_gate.weight.empty()) {
      SharedRows in(compute_, h, rows, hidden, quantized_);
      apply(compute_, layer.shared_gate, in, share_.data());
      compute_.kernels.sigmoid(share_.data(), rows);
    }
  }
  each_row(compute_.pool, rows, (config_.gate.used + 1) * hidden, [&](std::size_t row) {
    const std::size_t first = row * config_.gate.used;
    const kernels::WeightedRows chosen{routing.weights.data() + first, outputs.data() + first,
                                       config_.gate.used};
    const float* const last = shared ? out_.data() + row * hidden : nullptr;
    compute_.kernels.add_weighted(chosen, last, share_[row], hidden, x + row * hidden);
  });
}

void Backbone::logits(std::size_t rows, const float* x, float* logits) {
  const std::size_t hidden = config_.hidden;
  grow(normed_, rows * hidden);
  normalize(output_norm_, rows, x, normed_.data());
  SharedRows shared(compute_, normed_.data(), rows, hidden, quantized_);
  apply(compute_, head_, shared, logits);
}

}  // namespace conclave::model
