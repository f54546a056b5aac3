// Multi-head latent attention (DeepSeek V2/V3) in its absorbed form: the cache holds one row of
// [normalised latent | rotated key] a token, queries are projected into the latent space, and every
// head attends over the same row, as multi-query attention does.
#include <algorithm>

#include "attention_kinds.hpp"
#include "conclave/model/linear.hpp"
#include "tensor_reader.hpp"

namespace conclave::model {
namespace {

class LatentAttention final : public Attention {
 public:
  LatentAttention(const ModelConfig& config, const Rope& rope, std::uint32_t layer)
      : config_(config), rope_(rope), layer_(layer) {}

  base::Status load(const gguf::File& file) {
    const TensorReader reader(file);
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
           float* out) override {
    const std::size_t n = rows.places.size();
    const LatentConfig& l = config_.attention.latent;
    SharedRows shared(compute, x, n, config_.hidden, quantized_);
    kv_rows_.resize(n * kv_.outputs());
    q_rows_.resize(n * q_.outputs());
    if (l.query_rank > 0) {
      q_low_.resize(n * l.query_rank);
      apply(compute, {{kv_, kv_rows_.data()}, {q_down_, q_low_.data()}}, shared);
      for (std::size_t row = 0; row < n; ++row) {
        float* low = q_low_.data() + row * l.query_rank;
        compute.kernels.rms_norm(low, q_norm_.data(), l.query_rank, config_.norm_eps, low);
      }
      SharedRows low(compute, q_low_.data(), n, l.query_rank, quantized_);
      apply(compute, q_, low, q_rows_.data());
    } else {
      apply(compute, {{kv_, kv_rows_.data()}, {q_, q_rows_.data()}}, shared);
    }
    compute.pool.for_each(n, [&](std::size_t row, unsigned) { place_row(compute, rows, row); });
    absorb_queries(compute, rows);

    attended_.resize(n * config_.attention.heads * l.kv_rank);
    attend(compute,
           {&config_, layer_, rows.places, rows.pool, absorbed_.data(), {}, attended_.data()});
    expand_values(compute, n);
    SharedRows context(compute, context_.data(), n, std::size_t{config_.attention.heads} * l.value,
                       quantized_);
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
      CONCLAVE_TRY(auto k_head, kernels::PackedMatrix::pack(gguf::BlockType::kF32,
                                                            std::as_bytes(std::span(transposed)),
                                                            l.kv_rank, l.nope));
      CONCLAVE_TRY(auto v_head, reader.rows(*both, h * rows + l.nope, l.value, l.kv_rank));
      k_up_.push_back(std::move(k_head));
      v_up_.push_back(std::move(v_head));
    }
    return {};
  }

  // Normalises the latent row, rotates its key part and the query's, and caches the row.
  void place_row(const kernels::Compute& compute, const StepRows& rows, std::size_t row) {
    const LatentConfig& l = config_.attention.latent;
    const float* cos = rows.cos + row * rope_.pairs();
    const float* sin = rows.sin + row * rope_.pairs();
    float* latent = kv_rows_.data() + row * kv_.outputs();
    compute.kernels.rms_norm(latent, kv_norm_.data(), l.kv_rank, config_.norm_eps, latent);
    rope_.rotate(latent + l.kv_rank, cos, sin);
    store_kv(config_, *rows.pool, layer_, 0, rows.places[row], latent, latent);
    float* q = q_rows_.data() + row * q_.outputs();
    for (std::uint32_t h = 0; h < config_.attention.heads; ++h) {
      rope_.rotate(q + std::size_t{h} * (l.nope + l.rope) + l.nope, cos, sin);
    }
  }

  // absorbed (rows, heads, kv_rank + rope) = [k_up q_nope | q_rope].
  void absorb_queries(const kernels::Compute& compute, const StepRows& rows) {
    const LatentConfig& l = config_.attention.latent;
    const std::size_t n = rows.places.size();
    const std::size_t heads = config_.attention.heads;
    const std::size_t width = l.kv_rank + l.rope;
    absorbed_.resize(n * heads * width);
    by_head_.resize(heads * n * l.nope);
    for (std::size_t row = 0; row < n; ++row) {
      for (std::size_t h = 0; h < heads; ++h) {
        const float* q = q_rows_.data() + row * q_.outputs() + h * (l.nope + l.rope);
        std::copy_n(q, l.nope, by_head_.data() + (h * n + row) * l.nope);
        std::copy_n(q + l.nope, l.rope, absorbed_.data() + (row * heads + h) * width + l.kv_rank);
      }
    }
    project_heads(compute, k_up_, n, absorbed_.data(), width);
  }

  // context (rows, heads, value) = v_up attended.
  void expand_values(const kernels::Compute& compute, std::size_t n) {
    const LatentConfig& l = config_.attention.latent;
    const std::size_t heads = config_.attention.heads;
    by_head_.resize(heads * n * l.kv_rank);
    for (std::size_t row = 0; row < n; ++row) {
      for (std::size_t h = 0; h < heads; ++h) {
        std::copy_n(attended_.data() + (row * heads + h) * l.kv_rank, l.kv_rank,
                    by_head_.data() + (h * n + row) * l.kv_rank);
      }
    }
    context_.resize(n * heads * l.value);
    project_heads(compute, v_up_, n, context_.data(), l.value);
  }

  // For each head: y[row, head, :] = W_head by_head_[head, row, :], y (rows, heads, width).
  void project_heads(const kernels::Compute& compute,
                     const std::vector<kernels::PackedMatrix>& weights, std::size_t n, float* y,
                     std::size_t width) {
    const std::size_t inputs = weights.front().inputs();
    const std::size_t heads = weights.size();
    SharedRows shared(compute, by_head_.data(), heads * n, inputs, quantized_);
    std::vector<std::uint32_t> index(heads * n);
    for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<std::uint32_t>(i);
    std::vector<kernels::Product> products;
    for (std::size_t h = 0; h < heads; ++h) {
      products.push_back({&weights[h], shared.for_weights(weights[h]), index.data() + h * n, n,
                          y + h * width, heads * width});
    }
    kernels::matmul(compute, products);
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

  base::AlignedVector<float> kv_rows_, q_low_, q_rows_, by_head_, absorbed_, attended_, context_;
  kernels::QuantizedRows quantized_;
};

}  // namespace

base::Result<std::unique_ptr<Attention>> load_latent_attention(const gguf::File& file,
                                                               const ModelConfig& config,
                                                               const Rope& rope,
                                                               std::uint32_t layer) {
  auto attention = std::make_unique<LatentAttention>(config, rope, layer);
  CONCLAVE_TRY_VOID(attention->load(file));
  return attention;
}

}  // namespace conclave::model
