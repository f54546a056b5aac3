// Multi-head latent attention (DeepSeek V2/V3) in its absorbed form: the cache holds one row of
// [normalised latent | rotated key] a token, queries are projected into the latent space, and every
// head attends over the same row, as multi-query attention does.
#include <algorithm>

#include "attention_kinds.hpp"
#include "conclave/model/linear.hpp"
#include "row_loop.hpp"
#include "tensor_reader.hpp"

namespace conclave::model {
namespace {

class LatentAttention final : public Attention {
 public:
  LatentAttention(const ModelConfig& config, const Rope& rope, std::uint32_t layer)
      : config_(config), rope_(rope), layer_(layer) {}

  base::Status load(const TensorReader& reader) {
    const LatentConfig& l = config_.attention.latent;
    const std::uint64_t q_width = std::uint64_t{config_.attention.heads} * (l.nope + l.rope);
    const auto name = [&](std::string_view tensor) { return block_name(layer_, tensor); };
    if (l.query_rank > 0) {
      CONCLAVE_TRY(q_down_, reader.linear(name("attn_q_a"), config_.hidden, l.query_rank));
      CONCLAVE_TRY(q_norm_, reader.vector(name("attn_q_a_norm.weight"), l.query_rank));
      CONCLAVE_TRY(q_, reader.linear(name("attn_q_b"), l.query_rank, q_width));
    } else {
      CONCLAVE_TRY(q_, reader.linear(name("attn_q"), config_.hidden, q_width));
    }
    CONCLAVE_TRY(kv_, reader.linear(name("attn_kv_a_mqa"), config_.hidden, l.kv_rank + l.rope));
    CONCLAVE_TRY(kv_norm_, reader.vector(name("attn_kv_a_norm.weight"), l.kv_rank));
    CONCLAVE_TRY(output_,
                 reader.linear(name("attn_output"),
                               std::uint64_t{config_.attention.heads} * l.value, config_.hidden));
    const bool split = reader.has(name("attn_k_b.weight"));
    return split ? load_split_heads(reader) : load_joint_heads(reader);
  }

  void run(const kernels::Compute& compute, const StepRows& rows, const float* x,
           float* out) const override {
    const std::size_t n = rows.places.size();
    const std::size_t heads = config_.attention.heads;
    const LatentConfig& l = config_.attention.latent;
    AttentionScratch& scratch = *rows.scratch;
    project_inputs(compute, n, x, scratch);
    grow(scratch.absorbed, n * heads * (l.kv_rank + l.rope));
    grow(scratch.by_head, n * heads * l.nope);
    const std::span<const RowRun> runs = rows.plan->blocks();
    // Rotations, copies and a store.
    const std::size_t numbers = 2 * q_.outputs() * n / runs.size();
    each_row(compute.pool, runs.size(), numbers,
             [&](std::size_t run) { place_run(compute.kernels, rows, runs[run]); });
    project_heads(compute, k_up_, n, scratch, scratch.absorbed.data(), l.kv_rank + l.rope);

    grow(scratch.attended, n * heads * l.kv_rank);
    attend(compute, {config_, layer_, rows, scratch.absorbed.data(), {}, scratch.attended.data()});
    expand_values(compute, n, scratch);
    SharedRows context(compute, scratch.context.data(), n, heads * l.value, scratch.quantized);
    apply(compute, output_, context, out);
  }

  [[nodiscard]] std::size_t bytes() const override {
    std::size_t sum =
        q_down_.weight.bytes() + q_.weight.bytes() + kv_.weight.bytes() + output_.weight.bytes();
    for (const auto& head : k_up_) sum += head.bytes();
    for (const auto& head : v_up_) sum += head.bytes();
    return sum;
  }

 private:
  // attn_k_b (nope, kv_rank, heads) and attn_v_b (kv_rank, value, heads).
  base::Status load_split_heads(const TensorReader& reader) {
    const LatentConfig& l = config_.attention.latent;
    const std::uint64_t heads = config_.attention.heads;
    CONCLAVE_TRY(const auto* k,
                 reader.expect(block_name(layer_, "attn_k_b.weight"), {l.nope, l.kv_rank, heads}));
    CONCLAVE_TRY(const auto* v,
                 reader.expect(block_name(layer_, "attn_v_b.weight"), {l.kv_rank, l.value, heads}));
    for (std::uint64_t h = 0; h < heads; ++h) {
      CONCLAVE_TRY(auto k_head, reader.rows(*k, h * l.kv_rank, l.kv_rank, l.nope));
      CONCLAVE_TRY(auto v_head, reader.rows(*v, h * l.value, l.value, l.kv_rank));
      k_up_.push_back(std::move(k_head));
      v_up_.push_back(std::move(v_head));
    }
    return {};
  }

  // attn_kv_b (kv_rank, heads * (nope + value)): the key part of a head is transposed, which a
  // block format cannot express, so it is kept as floats.
  base::Status load_joint_heads(const TensorReader& reader) {
    const LatentConfig& l = config_.attention.latent;
    const std::uint64_t heads = config_.attention.heads;
    const std::uint64_t rows = l.nope + l.value;
    CONCLAVE_TRY(const auto* both,
                 reader.expect(block_name(layer_, "attn_kv_b.weight"), {l.kv_rank, heads * rows}));
    for (std::uint64_t h = 0; h < heads; ++h) {
      CONCLAVE_TRY(const auto k, reader.float_rows(*both, h * rows, l.nope, l.kv_rank));
      std::vector<float> transposed(k.size());
      for (std::size_t i = 0; i < l.nope; ++i) {
        for (std::size_t j = 0; j < l.kv_rank; ++j) {
          transposed[j * l.nope + i] = k[i * l.kv_rank + j];
        }
      }
      CONCLAVE_TRY(auto k_head, reader.pack(transposed, l.kv_rank, l.nope));
      CONCLAVE_TRY(auto v_head, reader.rows(*both, h * rows + l.nope, l.value, l.kv_rank));
      k_up_.push_back(std::move(k_head));
      v_up_.push_back(std::move(v_head));
    }
    return {};
  }

  // The query rows and the latent rows with their key part.
  void project_inputs(const kernels::Compute& compute, std::size_t n, const float* x,
                      AttentionScratch& scratch) const {
    const LatentConfig& l = config_.attention.latent;
    SharedRows shared(compute, x, n, config_.hidden, scratch.quantized);
    float* kv = grow(scratch.k, n * kv_.outputs());
    float* q = grow(scratch.q, n * q_.outputs());
    if (l.query_rank == 0) {
      apply(compute, {{kv_, kv}, {q_, q}}, shared);
      return;
    }
    float* low = grow(scratch.low, n * l.query_rank);
    apply(compute, {{kv_, kv}, {q_down_, low}}, shared);
    each_row(compute.pool, n, 2 * l.query_rank, [&](std::size_t row) {
      float* values = low + row * l.query_rank;
      compute.kernels.rms_norm(values, q_norm_.data(), l.query_rank, config_.norm_eps, values);
    });
    SharedRows low_rows(compute, low, n, l.query_rank, scratch.quantized);
    apply(compute, q_, low_rows, q);
  }

  // For rows in one KV block: normalises the latent, rotates its key part and caches both; rotates
  // the queries, and puts their halves where the absorbed query takes them from: by_head (heads,
  // rows, nope) is still to be projected, the rotated part ends absorbed (rows, heads, kv_rank +
  // rope).
  void place_run(const kernels::KernelTable& kernels, const StepRows& rows, RowRun run) const {
    const LatentConfig& l = config_.attention.latent;
    AttentionScratch& scratch = *rows.scratch;
    const std::size_t n = rows.places.size();
    const std::size_t heads = config_.attention.heads;
    for (std::size_t row = run.first; row < run.first + run.count; ++row) {
      const float* cos = rows.cos + row * rope_.pairs();
      const float* sin = rows.sin + row * rope_.pairs();
      float* latent = scratch.k.data() + row * kv_.outputs();
      kernels.rms_norm(latent, kv_norm_.data(), l.kv_rank, config_.norm_eps, latent);
      rope_.rotate(latent + l.kv_rank, cos, sin);
      for (std::size_t h = 0; h < heads; ++h) {
        float* q = scratch.q.data() + row * q_.outputs() + h * (l.nope + l.rope);
        rope_.rotate(q + l.nope, cos, sin);
        std::copy_n(q, l.nope, scratch.by_head.data() + (h * n + row) * l.nope);
        std::copy_n(q + l.nope, l.rope,
                    scratch.absorbed.data() + (row * heads + h) * (l.kv_rank + l.rope) + l.kv_rank);
      }
    }
    const RowPlace& place = rows.places[run.first];
    const KvBlockId block = place.blocks[place.position / kKvBlockTokens];
    kernels.store_kv({rows.pool->layout(), rows.pool->head(block, layer_, 0),
                      place.position % kKvBlockTokens, run.count,
                      scratch.k.data() + run.first * kv_.outputs(), kv_.outputs(), nullptr, 0});
  }

  // context (rows, heads, value) = v_up attended.
  void expand_values(const kernels::Compute& compute, std::size_t n,
                     AttentionScratch& scratch) const {
    const LatentConfig& l = config_.attention.latent;
    const std::size_t heads = config_.attention.heads;
    float* by_head = grow(scratch.by_head, heads * n * l.kv_rank);
    each_row(compute.pool, n, heads * l.kv_rank, [&](std::size_t row) {
      for (std::size_t h = 0; h < heads; ++h) {
        std::copy_n(scratch.attended.data() + (row * heads + h) * l.kv_rank, l.kv_rank,
                    by_head + (h * n + row) * l.kv_rank);
      }
    });
    project_heads(compute, v_up_, n, scratch, grow(scratch.context, n * heads * l.value), l.value);
  }

  // For each head: y[row, head, :] = W_head by_head[head, row, :], y (rows, heads, width).
  void project_heads(const kernels::Compute& compute,
                     const std::vector<kernels::PackedMatrix>& weights, std::size_t n,
                     AttentionScratch& scratch, float* y, std::size_t width) const {
    const std::size_t heads = weights.size();
    SharedRows shared(compute, scratch.by_head.data(), heads * n, weights.front().inputs(),
                      scratch.quantized);
    // All are parts of one tensor.
    const auto rows = shared.with_scales(kernels::scale_block(weights.front().type()));
    scratch.products.clear();
    for (std::size_t h = 0; h < heads; ++h) {
      scratch.products.push_back(
          {&weights[h], rows.slice(h * n, n), nullptr, n, y + h * width, heads * width});
    }
    kernels::matmul(compute, scratch.products);
  }

  const ModelConfig& config_;
  const Rope& rope_;
  std::uint32_t layer_;
  Linear q_down_;  // empty without a query rank
  std::vector<float> q_norm_;
  Linear q_;
  Linear kv_;
  std::vector<float> kv_norm_;
  std::vector<kernels::PackedMatrix> k_up_;  // a head each: (kv_rank, nope)
  std::vector<kernels::PackedMatrix> v_up_;  // a head each: (value, kv_rank)
  Linear output_;
};

}  // namespace

base::Result<std::unique_ptr<Attention>> load_latent_attention(const TensorReader& reader,
                                                               const ModelConfig& config,
                                                               const Rope& rope,
                                                               std::uint32_t layer) {
  auto attention = std::make_unique<LatentAttention>(config, rope, layer);
  CONCLAVE_TRY_VOID(attention->load(reader));
  return attention;
}

}  // namespace conclave::model
