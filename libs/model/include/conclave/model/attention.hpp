// Attention over KV blocks. One function attends for every architecture; grouped-query attention
// and multi-head latent attention differ in how they make queries, cached rows and outputs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/kv_pool.hpp"
#include "conclave/model/rope.hpp"

namespace conclave::model {

/// Where a row of a step stands: its position, and the blocks of its sequence up to that one. Rows
/// of one sequence stand together in rising positions; every earlier position is cached already.
struct RowPlace {
  KvTable blocks;
  std::uint32_t position = 0;
};

/// The rows of one step, with the rotation angles of their positions (rows, rope.pairs()).
struct StepRows {
  std::span<const RowPlace> places;
  const KvPool* pool = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

/// The attention of one layer. Immutable weights; `run` keeps its scratch inside, so one thread at
/// a time calls it.
class Attention {
 public:
  virtual ~Attention() = default;

  /// out (rows, hidden) = attention(x), x (rows, hidden) normalised; caches the rows' keys and
  /// values on the way.
  virtual void run(const kernels::Compute& compute, const StepRows& rows, const float* x,
                   float* out) = 0;

  [[nodiscard]] virtual std::size_t bytes() const = 0;
};

/// Loads the attention of a layer of either kind. kCorruptData: tensors missing or misshapen.
base::Result<std::unique_ptr<Attention>> load_attention(const gguf::File& file,
                                                        const ModelConfig& config, const Rope& rope,
                                                        std::uint32_t layer);

/// softmax(scale * q k^T) v for every row and head: q (rows, heads, key_dim) -> out (rows, heads,
/// value_dim). A row sees positions max(0, position - window + 1) .. position of its cache. `sinks`
/// (heads, or empty) join the softmax as one more score without a value.
struct AttendCall {
  const ModelConfig* config = nullptr;
  std::uint32_t layer = 0;
  std::span<const RowPlace> places;
  const KvPool* pool = nullptr;
  const float* q = nullptr;
  std::span<const float> sinks;
  float* out = nullptr;
};
void attend(const kernels::Compute& compute, const AttendCall& call);

}  // namespace conclave::model
