#include "tensor_reader.hpp"

#include <algorithm>

namespace conclave::model {

using base::ErrorCode;
using base::fail;
using base::Result;

std::string block_name(std::uint32_t layer, std::string_view name) {
  return "blk." + std::to_string(layer) + "." + std::string(name);
}

Result<const gguf::TensorInfo*> TensorReader::expect(
    const std::string& name, std::initializer_list<std::uint64_t> shape) const {
  const gguf::TensorInfo* tensor = file_.find(name);
  if (tensor == nullptr) return fail(ErrorCode::kCorruptData, "no tensor " + name);
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    std::string wanted;
    for (const std::uint64_t n : shape) wanted += (wanted.empty() ? "" : ", ") + std::to_string(n);
    return fail(ErrorCode::kCorruptData,
                "tensor " + name + " is " + tensor->describe() + ", expected [" + wanted + "]");
  }
  return tensor;
}

Result<std::vector<float>> TensorReader::vector(const std::string& name, std::uint64_t n) const {
  CONCLAVE_TRY(const gguf::TensorInfo* tensor, expect(name, {n}));
  std::vector<float> values(n);
  gguf::dequantize(tensor->type, file_.bytes(*tensor), values);
  return values;
}

Result<std::vector<float>> TensorReader::vector_if_any(const std::string& name,
                                                       std::uint64_t n) const {
  if (!has(name)) return std::vector<float>{};
  return vector(name, n);
}

Result<Linear> TensorReader::linear(const std::string& name, std::uint64_t inputs,
                                    std::uint64_t outputs) const {
  Linear linear;
  CONCLAVE_TRY(const gguf::TensorInfo* tensor, expect(name + ".weight", {inputs, outputs}));
  CONCLAVE_TRY(linear.weight, rows(*tensor, 0, outputs, inputs));
  CONCLAVE_TRY(linear.bias, vector_if_any(name + ".bias", outputs));
  return linear;
}

Result<std::span<const std::byte>> TensorReader::row_bytes(const gguf::TensorInfo& tensor,
                                                           std::uint64_t first,
                                                           std::uint64_t outputs,
                                                           std::uint64_t inputs) const {
  const auto bytes = gguf::bytes_of(tensor.type, inputs);
  const std::span<const std::byte> data = file_.bytes(tensor);
  if (!bytes || (first + outputs) * *bytes > data.size()) {
    return fail(ErrorCode::kCorruptData, "tensor " + tensor.name + " is " + tensor.describe() +
                                             ": no rows of " + std::to_string(inputs) +
                                             " values can be cut from it");
  }
  return data.subspan(first * *bytes, outputs * *bytes);
}

Result<kernels::PackedMatrix> TensorReader::rows(const gguf::TensorInfo& tensor,
                                                 std::uint64_t first, std::uint64_t outputs,
                                                 std::uint64_t inputs) const {
  CONCLAVE_TRY(const auto data, row_bytes(tensor, first, outputs, inputs));
  return kernels::PackedMatrix::pack(tensor.type, data, outputs, inputs);
}

Result<std::vector<float>> TensorReader::float_rows(const gguf::TensorInfo& tensor,
                                                    std::uint64_t first, std::uint64_t outputs,
                                                    std::uint64_t inputs) const {
  CONCLAVE_TRY(const auto data, row_bytes(tensor, first, outputs, inputs));
  std::vector<float> values(outputs * inputs);
  gguf::dequantize(tensor.type, data, values);
  return values;
}

}  // namespace conclave::model
