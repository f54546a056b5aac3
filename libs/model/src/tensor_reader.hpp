// Takes tensors out of a file by name with the shape that the configuration demands, and packs
// them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/linear.hpp"

namespace conclave::model {

std::string block_name(std::uint32_t layer, std::string_view name);  // "blk.3.attn_q"

class TensorReader {
 public:
  explicit TensorReader(const gguf::File& file) : file_(file) {}

  [[nodiscard]] bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  /// The tensor `name` of exactly this shape; kCorruptData if it is missing or of another one.
  [[nodiscard]] base::Result<const gguf::TensorInfo*> expect(
      const std::string& name, std::initializer_list<std::uint64_t> shape) const;

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
  const gguf::File& file_;
};

}  // namespace conclave::model
