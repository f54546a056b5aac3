// Takes tensors out of a file by name with the shape that the configuration demands, and packs
// them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/arena.hpp"
#include "conclave/base/result.hpp"
#include "conclave/base/thread_pool.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/linear.hpp"

namespace conclave::model {

std::string block_name(std::uint32_t layer, std::string_view name);  // "blk.3.attn_q"

class Sha256Hasher;

/// Looks tensors up.
class TensorTable {
 public:
  explicit TensorTable(const gguf::File& file) : file_(file) {}

  [[nodiscard]] bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  /// The tensor `name` of exactly this shape; kCorruptData if it is missing or of another one.
  [[nodiscard]] base::Result<const gguf::TensorInfo*> expect(
      const std::string& name, std::initializer_list<std::uint64_t> shape) const;

 protected:
  const gguf::File& file_;
};

/// Matrices get their memory from an arena. Bytes that were packed are forgotten (gguf::File), so
/// that a loaded model is not in memory twice.
class TensorReader : public TensorTable {
 public:
  /// All are borrowed. `hasher`: sums the bytes of rows, fill and float_rows in the order of the
  /// calls, while they are in the cache for packing; null: nobody.
  TensorReader(const gguf::File& file, base::Arena& arena, Sha256Hasher* hasher = nullptr)
      : TensorTable(file), arena_(arena), hasher_(hasher) {}

  /// `name` (n) as floats.
  [[nodiscard]] base::Result<std::vector<float>> vector(const std::string& name,
                                                        std::uint64_t n) const;
  /// As `vector`, or empty if there is no such tensor.
  [[nodiscard]] base::Result<std::vector<float>> vector_if_any(const std::string& name,
                                                               std::uint64_t n) const;

  /// `name`.weight (inputs, outputs) and `name`.bias (outputs) if there is one.
  [[nodiscard]] base::Result<Linear> linear(const std::string& name, std::uint64_t inputs,
                                            std::uint64_t outputs) const;

  /// Rows [first, first + outputs) of a tensor whose rows have `inputs` values.
  [[nodiscard]] base::Result<kernels::PackedMatrix> rows(const gguf::TensorInfo& tensor,
                                                         std::uint64_t first, std::uint64_t outputs,
                                                         std::uint64_t inputs) const;

  /// The two halves of it: room for such rows, so that matrices that are used together can lie
  /// together, and what fills a matrix that has its room for rows of the same tensor.
  [[nodiscard]] base::Result<kernels::PackedMatrix> room(const gguf::TensorInfo& tensor,
                                                         std::uint64_t outputs,
                                                         std::uint64_t inputs) const;
  [[nodiscard]] base::Status fill(const gguf::TensorInfo& tensor, std::uint64_t first,
                                  kernels::PackedMatrix& matrix) const;

  /// As rows, packed by all threads of `pool`: for what is large and has no others beside it.
  /// Without a hasher only (checked).
  [[nodiscard]] base::Result<kernels::PackedMatrix> rows(const gguf::TensorInfo& tensor,
                                                         std::uint64_t outputs,
                                                         std::uint64_t inputs,
                                                         base::ThreadPool& pool) const;

  /// Floats that were computed and not read: (outputs, inputs).
  [[nodiscard]] base::Result<kernels::PackedMatrix> pack(std::span<const float> values,
                                                         std::uint64_t outputs,
                                                         std::uint64_t inputs) const;

  /// The same rows as floats (outputs, inputs).
  [[nodiscard]] base::Result<std::vector<float>> float_rows(const gguf::TensorInfo& tensor,
                                                            std::uint64_t first,
                                                            std::uint64_t outputs,
                                                            std::uint64_t inputs) const;

 private:
  [[nodiscard]] base::Result<std::span<const std::byte>> row_bytes(const gguf::TensorInfo& tensor,
                                                                   std::uint64_t first,
                                                                   std::uint64_t outputs,
                                                                   std::uint64_t inputs) const;
  [[nodiscard]] gguf::ByteRange range_of(const gguf::TensorInfo& tensor,
                                         std::span<const std::byte> bytes) const;

  base::Arena& arena_;
  Sha256Hasher* hasher_;
};

}  // namespace conclave::model
