// Attention over KV blocks. One function attends for every architecture; grouped-query attention
// and multi-head latent attention differ in how they make queries, cached rows and outputs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "conclave/base/result.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/kv_pool.hpp"
#include "conclave/model/rope.hpp"
#include "conclave/model/step_plan.hpp"

namespace conclave::model {

class TensorReader;

/// The rows of one step, with the rotation angles of their positions (rows, rope.pairs()), and what
/// its attention layers share.
struct StepRows {
  std::span<const RowPlace> places;
  const KvPool* pool = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
  StepPlan* plan = nullptr;
  AttentionScratch* scratch = nullptr;
};

/// The attention of one layer. Immutable; what `run` needs beside it is in the StepRows.
class Attention {
 public:
  virtual ~Attention() = default;

  /// out (rows, hidden) = attention(x), x (rows, hidden) normalised; caches the rows' keys and
  /// values on the way.
  virtual void run(const kernels::Compute& compute, const StepRows& rows, const float* x,
                   float* out) const = 0;

  [[nodiscard]] virtual std::size_t bytes() const = 0;
};

/// Loads the attention of a layer of either kind. kCorruptData: tensors missing or misshapen.
base::Result<std::unique_ptr<Attention>> load_attention(const TensorReader& reader,
                                                        const ModelConfig& config, const Rope& rope,
                                                        std::uint32_t layer);

/// softmax(scale * q k^T) v for every row and head: q (rows, heads, key_dim) -> out (rows, heads,
/// value_dim). A row sees positions max(0, position - window + 1) .. position of its cache. `sinks`
/// (heads, or empty) join the softmax as one more score without a value.
struct AttendCall {
  const ModelConfig& config;
  std::uint32_t layer = 0;
  const StepRows& rows;
  const float* q = nullptr;
  std::span<const float> sinks;
  float* out = nullptr;
};
void attend(const kernels::Compute& compute, const AttendCall& call);

}  // namespace conclave::model
