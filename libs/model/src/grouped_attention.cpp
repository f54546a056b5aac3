// Multi-head, grouped-query and multi-query attention.
#include <algorithm>

#include "attention_kinds.hpp"
#include "conclave/model/linear.hpp"
#include "tensor_reader.hpp"

namespace conclave::model {
namespace {

class GroupedAttention final : public Attention {
 public:
  GroupedAttention(const ModelConfig& config, const Rope& rope, std::uint32_t layer)
      : config_(config), rope_(rope), layer_(layer) {}

  base::Status load(const gguf::File& file) {
    const TensorReader reader(file);
    const AttentionConfig& a = config_.attention;
    const std::uint64_t q_width = std::uint64_t{a.heads} * a.key_dim;
    const std::uint64_t k_width = std::uint64_t{a.kv_heads} * a.key_dim;
    const std::uint64_t v_width = std::uint64_t{a.kv_heads} * a.value_dim;
    const auto name = [&](std::string_view tensor) { return block_name(layer_, tensor); };
    CONCLAVE_TRY(q_, reader.linear(name("attn_q"), config_.hidden, q_width));
    CONCLAVE_TRY(k_, reader.linear(name("attn_k"), config_.hidden, k_width));
    CONCLAVE_TRY(v_, reader.linear(name("attn_v"), config_.hidden, v_width));
    CONCLAVE_TRY(output_, reader.linear(name("attn_output"), std::uint64_t{a.heads} * a.value_dim,
                                        config_.hidden));
    CONCLAVE_TRY(sinks_, reader.vector_if_any(name("attn_sinks.weight"), a.heads));
    if (config_.architecture->qk_norm == QkNorm::kNone) return {};
    const bool per_head = config_.architecture->qk_norm == QkNorm::kPerHead;
    CONCLAVE_TRY(q_norm_,
                 reader.vector(name("attn_q_norm.weight"), per_head ? a.key_dim : q_width));
    CONCLAVE_TRY(k_norm_,
                 reader.vector(name("attn_k_norm.weight"), per_head ? a.key_dim : k_width));
    return {};
  }

  void run(const kernels::Compute& compute, const StepRows& rows, const float* x,
           float* out) override {
    const AttentionConfig& a = config_.attention;
    const std::size_t n = rows.places.size();
    q_rows_.resize(n * q_.outputs());
    k_rows_.resize(n * k_.outputs());
    v_rows_.resize(n * v_.outputs());
    SharedRows shared(compute, x, n, config_.hidden, quantized_);
    apply(compute, {{q_, q_rows_.data()}, {k_, k_rows_.data()}, {v_, v_rows_.data()}}, shared);
    compute.pool.for_each(n, [&](std::size_t row, unsigned) { place_row(compute, rows, row); });

    attended_.resize(n * a.heads * a.value_dim);
    attend(compute,
           {&config_, layer_, rows.places, rows.pool, q_rows_.data(), sinks_, attended_.data()});
    SharedRows context(compute, attended_.data(), n, std::size_t{a.heads} * a.value_dim,
                       quantized_);
    apply(compute, output_, context, out);
  }

  [[nodiscard]] std::size_t bytes() const override {
    return q_.weight.bytes() + k_.weight.bytes() + v_.weight.bytes() + output_.weight.bytes();
  }

 private:
  // Normalises and rotates the queries and keys of a row and caches its keys and values.
  void place_row(const kernels::Compute& compute, const StepRows& rows, std::size_t row) {
    const AttentionConfig& a = config_.attention;
    float* q = q_rows_.data() + row * q_.outputs();
    float* k = k_rows_.data() + row * k_.outputs();
    const float* v = v_rows_.data() + row * v_.outputs();
    if (!q_norm_.empty()) {
      normalize(compute, q_norm_, q_.outputs(), q);
      normalize(compute, k_norm_, k_.outputs(), k);
    }
    const float* cos = rows.cos + row * rope_.pairs();
    const float* sin = rows.sin + row * rope_.pairs();
    for (std::uint32_t h = 0; h < a.heads; ++h) rope_.rotate(q + h * a.key_dim, cos, sin);
    for (std::uint32_t h = 0; h < a.kv_heads; ++h) {
      rope_.rotate(k + h * a.key_dim, cos, sin);
      store_kv(config_, *rows.pool, layer_, h, rows.places[row], k + h * a.key_dim,
               v + h * a.value_dim);
    }
  }

  // One norm over as many values as there are weights, repeated over the width.
  void normalize(const kernels::Compute& compute, const std::vector<float>& weight,
                 std::size_t width, float* x) const {
    for (std::size_t at = 0; at < width; at += weight.size()) {
      compute.kernels.rms_norm(x + at, weight.data(), weight.size(), config_.norm_eps, x + at);
    }
  }

  const ModelConfig& config_;
  const Rope& rope_;
  std::uint32_t layer_;
  Linear q_, k_, v_, output_;
  std::vector<float> q_norm_, k_norm_;  // empty: none
  std::vector<float> sinks_;            // (heads), empty: none

  base::AlignedVector<float> q_rows_, k_rows_, v_rows_, attended_;
  kernels::QuantizedRows quantized_;
};

}  // namespace

base::Result<std::unique_ptr<Attention>> load_grouped_attention(const gguf::File& file,
                                                                const ModelConfig& config,
                                                                const Rope& rope,
                                                                std::uint32_t layer) {
  auto attention = std::make_unique<GroupedAttention>(config, rope, layer);
  CONCLAVE_TRY_VOID(attention->load(file));
  return attention;
}

void store_kv(const ModelConfig& config, const KvPool& pool, std::uint32_t layer,
              std::uint32_t head, const RowPlace& place, const float* key, const float* value) {
  const KvBlockId block = place.blocks[place.position / kKvBlockTokens];
  const std::uint32_t slot = place.position % kKvBlockTokens;
  float* keys = pool.keys(block, layer, head);
  for (std::uint32_t d = 0; d < config.attention.key_dim; ++d) {
    keys[d * kKvBlockTokens + slot] = key[d];
  }
  std::copy_n(value, config.attention.value_dim,
              pool.values(block, layer, head) + std::size_t{slot} * config.attention.value_dim);
}

base::Result<std::unique_ptr<Attention>> load_attention(const gguf::File& file,
                                                        const ModelConfig& config, const Rope& rope,
                                                        std::uint32_t layer) {
  switch (config.architecture->attention) {
    case AttentionKind::kGrouped:
      return load_grouped_attention(file, config, rope, layer);
    case AttentionKind::kLatent:
      return load_latent_attention(file, config, rope, layer);
  }
  return base::fail(base::ErrorCode::kInternal, "unknown kind of attention");
}

}  // namespace conclave::model
