#include "tensor_reader.hpp"

#include <algorithm>

#include "conclave/base/check.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::model {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

// Rows that are summed, then packed: few enough to be in a core's cache in between, many beside the
// cost of a call.
constexpr std::size_t kChunkBytes = std::size_t{128} << 10;
// Panels that one thread packs at a time, at the least.
constexpr std::size_t kShareBytes = std::size_t{1} << 20;

// Of rows of `row_bytes`: those of whole panels that have about `bytes`.
std::size_t panels_of(std::size_t bytes, std::size_t row_bytes) {
  return std::max<std::size_t>(1, bytes / (row_bytes * kernels::kPanelOutputs));
}

}  // namespace

std::string block_name(std::uint32_t layer, std::string_view name) {
  return "blk." + std::to_string(layer) + "." + std::string(name);
}

Result<const gguf::TensorInfo*> TensorTable::expect(
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
  CONCLAVE_TRY(auto matrix, room(tensor, outputs, inputs));
  CONCLAVE_TRY_VOID(fill(tensor, first, matrix));
  return matrix;
}

Result<kernels::PackedMatrix> TensorReader::room(const gguf::TensorInfo& tensor,
                                                 std::uint64_t outputs,
                                                 std::uint64_t inputs) const {
  return kernels::PackedMatrix::create(tensor.type, outputs, inputs, arena_);
}

base::Status TensorReader::fill(const gguf::TensorInfo& tensor, std::uint64_t first,
                                kernels::PackedMatrix& matrix) const {
  CONCLAVE_TRY(const auto data, row_bytes(tensor, first, matrix.outputs(), matrix.inputs()));
  const std::size_t row = data.size() / matrix.outputs();
  const std::size_t panels = panels_of(kChunkBytes, row);
  const std::size_t chunk = panels * kernels::kPanelOutputs * row;
  for (std::size_t panel = 0, at = 0; at < data.size(); panel += panels, at += chunk) {
    const auto rows = data.subspan(at, std::min(chunk, data.size() - at));
    if (hasher_ != nullptr) hasher_->update(rows);
    matrix.fill(panel, rows);
  }
  file_.forget(range_of(tensor, data));
  return {};
}

Result<kernels::PackedMatrix> TensorReader::rows(const gguf::TensorInfo& tensor,
                                                 std::uint64_t outputs, std::uint64_t inputs,
                                                 base::ThreadPool& pool) const {
  CONCLAVE_CHECK(hasher_ == nullptr);
  CONCLAVE_TRY(const auto data, row_bytes(tensor, 0, outputs, inputs));
  CONCLAVE_TRY(auto matrix, kernels::PackedMatrix::create(tensor.type, outputs, inputs, arena_));
  const std::size_t row = data.size() / outputs;
  const std::size_t panels = panels_of(kShareBytes, row);
  const std::size_t share = panels * kernels::kPanelOutputs * row;
  pool.for_each((data.size() + share - 1) / share, [&](std::size_t i, unsigned) {
    const auto rows = data.subspan(i * share, std::min(share, data.size() - i * share));
    matrix.fill(i * panels, rows);
    file_.forget(range_of(tensor, rows));
  });
  return matrix;
}

Result<kernels::PackedMatrix> TensorReader::pack(std::span<const float> values,
                                                 std::uint64_t outputs,
                                                 std::uint64_t inputs) const {
  CONCLAVE_CHECK(values.size() == outputs * inputs);
  CONCLAVE_TRY(auto matrix,
               kernels::PackedMatrix::create(gguf::BlockType::kF32, outputs, inputs, arena_));
  matrix.fill(0, std::as_bytes(values));
  return matrix;
}

gguf::ByteRange TensorReader::range_of(const gguf::TensorInfo& tensor,
                                       std::span<const std::byte> bytes) const {
  const auto before = static_cast<std::uint64_t>(bytes.data() - file_.bytes(tensor).data());
  return {tensor.range.part, tensor.range.offset + before, bytes.size()};
}

Result<std::vector<float>> TensorReader::float_rows(const gguf::TensorInfo& tensor,
                                                    std::uint64_t first, std::uint64_t outputs,
                                                    std::uint64_t inputs) const {
  CONCLAVE_TRY(const auto data, row_bytes(tensor, first, outputs, inputs));
  if (hasher_ != nullptr) hasher_->update(data);
  std::vector<float> values(outputs * inputs);
  gguf::dequantize(tensor.type, data, values);
  file_.forget(range_of(tensor, data));
  return values;
}

}  // namespace conclave::model
