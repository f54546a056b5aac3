// Multi-head, grouped-query and multi-query attention.
#include "attention_kinds.hpp"
#include "conclave/model/linear.hpp"
#include "row_loop.hpp"
#include "tensor_reader.hpp"

namespace conclave::model {
namespace {

class GroupedAttention final : public Attention {
 public:
  GroupedAttention(const ModelConfig& config, const Rope& rope, std::uint32_t layer)
      : config_(config), rope_(rope), layer_(layer) {}

  base::Status load(const TensorReader& reader) {
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
           float* out) const override {
    const AttentionConfig& a = config_.attention;
    const std::size_t n = rows.places.size();
    AttentionScratch& scratch = *rows.scratch;
    float* q = grow(scratch.q, n * q_.outputs());
    float* k = grow(scratch.k, n * k_.outputs());
    float* v = grow(scratch.v, n * v_.outputs());
    SharedRows shared(compute, x, n, config_.hidden, scratch.quantized);
    apply(compute, {{q_, q}, {k_, k}, {v_, v}}, shared);
    const std::span<const RowRun> runs = rows.plan->blocks();
    // A norm, a rotation and a store pass over each number some four times.
    const std::size_t numbers = 4 * (q_.outputs() + k_.outputs()) * n / runs.size();
    each_row(compute.pool, runs.size(), numbers,
             [&](std::size_t run) { place_run(compute.kernels, rows, runs[run]); });

    const std::size_t width = std::size_t{a.heads} * a.value_dim;
    float* attended = grow(scratch.attended, n * width);
    attend(compute, {config_, layer_, rows, q, sinks_, attended});
    SharedRows context(compute, attended, n, width, scratch.quantized);
    apply(compute, output_, context, out);
  }

  [[nodiscard]] std::size_t bytes() const override {
    return q_.weight.bytes() + k_.weight.bytes() + v_.weight.bytes() + output_.weight.bytes();
  }

 private:
  // Normalises and rotates the queries and keys of rows in one KV block and caches their keys and
  // values.
  void place_run(const kernels::KernelTable& kernels, const StepRows& rows, RowRun run) const {
    const AttentionConfig& a = config_.attention;
    AttentionScratch& scratch = *rows.scratch;
    for (std::size_t row = run.first; row < run.first + run.count; ++row) {
      float* q = scratch.q.data() + row * q_.outputs();
      float* k = scratch.k.data() + row * k_.outputs();
      if (!q_norm_.empty()) {
        normalize(kernels, q_norm_, q_.outputs(), q);
        normalize(kernels, k_norm_, k_.outputs(), k);
      }
      const float* cos = rows.cos + row * rope_.pairs();
      const float* sin = rows.sin + row * rope_.pairs();
      for (std::uint32_t h = 0; h < a.heads; ++h) rope_.rotate(q + h * a.key_dim, cos, sin);
      for (std::uint32_t h = 0; h < a.kv_heads; ++h) rope_.rotate(k + h * a.key_dim, cos, sin);
    }
    const RowPlace& place = rows.places[run.first];
    const KvBlockId block = place.blocks[place.position / kKvBlockTokens];
    for (std::uint32_t h = 0; h < a.kv_heads; ++h) {
      kernels.store_kv(
          {rows.pool->layout(), rows.pool->head(block, layer_, h), place.position % kKvBlockTokens,
           run.count, scratch.k.data() + run.first * k_.outputs() + h * a.key_dim, k_.outputs(),
           scratch.v.data() + run.first * v_.outputs() + h * a.value_dim, v_.outputs()});
    }
  }

  // One norm over as many values as there are weights, repeated over the width.
  void normalize(const kernels::KernelTable& kernels, const std::vector<float>& weight,
                 std::size_t width, float* x) const {
    for (std::size_t at = 0; at < width; at += weight.size()) {
      kernels.rms_norm(x + at, weight.data(), weight.size(), config_.norm_eps, x + at);
    }
  }

  const ModelConfig& config_;
  const Rope& rope_;
  std::uint32_t layer_;
  Linear q_, k_, v_, output_;
  std::vector<float> q_norm_, k_norm_;  // empty: none
  std::vector<float> sinks_;            // (heads), empty: none
};

}  // namespace

base::Result<std::unique_ptr<Attention>> load_grouped_attention(const TensorReader& reader,
                                                                const ModelConfig& config,
                                                                const Rope& rope,
                                                                std::uint32_t layer) {
  auto attention = std::make_unique<GroupedAttention>(config, rope, layer);
  CONCLAVE_TRY_VOID(attention->load(reader));
  return attention;
}

base::Result<std::unique_ptr<Attention>> load_attention(const TensorReader& reader,
                                                        const ModelConfig& config, const Rope& rope,
                                                        std::uint32_t layer) {
  switch (config.architecture->attention) {
    case AttentionKind::kGrouped:
      return load_grouped_attention(reader, config, rope, layer);
    case AttentionKind::kLatent:
      return load_latent_attention(reader, config, rope, layer);
  }
  return base::fail(base::ErrorCode::kInternal, "unknown kind of attention");
}

}  // namespace conclave::model
