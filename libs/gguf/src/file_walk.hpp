// Touches all that a parsed file offers, and checks what must hold of any file that parses. Shared
// by the fuzzer and by the test over its corpus.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/gguf/writer.hpp"

namespace conclave::gguf::test {

// A fuzzer's files are small, but shapes may repeat: bounds the time of one walk.
inline constexpr std::size_t kWalkElementsMax = std::size_t{1} << 16;

inline void walk_metadata(const Metadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) {
    CONCLAVE_CHECK(metadata.find(key) == &value);
    // Any of these may refuse; none may fail otherwise.
    (void)metadata.get<bool>(key);
    (void)metadata.get<float>(key);
    (void)metadata.get<std::int8_t>(key);
    (void)metadata.get<std::uint64_t>(key);
    (void)metadata.get<std::string>(key);
    (void)metadata.get_array<char>(key);
    (void)metadata.get_array<std::int32_t>(key);
    (void)metadata.get_array<double>(key);
    (void)metadata.strings(key);
  }
}

inline void walk_tensor(const File& file, const TensorInfo& tensor, std::size_t& budget) {
  CONCLAVE_CHECK(file.find(tensor.name) == &tensor);
  CONCLAVE_CHECK(!tensor.describe().empty());
  const auto bytes = file.bytes(tensor);
  CONCLAVE_CHECK(bytes_of(tensor.type, tensor.elements()) == bytes.size());

  const std::uint64_t experts = tensor.shape.back();
  for (const std::uint64_t expert : {std::uint64_t{0}, experts - 1, experts}) {
    const auto range = expert_range(tensor, expert);
    CONCLAVE_CHECK(range.has_value() == (tensor.shape.size() > 1 && expert < experts));
    if (range) CONCLAVE_CHECK(file.bytes(*range).size() == range->size);
  }

  const BlockTraits block = traits(tensor.type);
  const std::size_t blocks = std::min(bytes.size() / block.bytes, budget / block.elements);
  std::vector<float> values(blocks * block.elements);
  dequantize(tensor.type, bytes.first(blocks * block.bytes), values);
  budget -= values.size();
}

// What the reader takes the writer takes, but for names that ggml would not; and it comes back.
inline void check_round_trip(const File& file) {
  std::vector<WriterTensor> tensors;
  for (const TensorInfo& tensor : file.tensors()) {
    if (tensor.name.size() > 63) return;
    tensors.push_back({tensor.name, tensor.shape, tensor.type, file.bytes(tensor)});
  }
  const auto written = serialize(file.metadata(), tensors);
  CONCLAVE_CHECK(written.has_value());
  const auto again = File::parse(*written);
  CONCLAVE_CHECK(again.has_value());
  CONCLAVE_CHECK(again->tensors().size() == tensors.size());
  const auto rewritten = serialize(again->metadata(), tensors);
  CONCLAVE_CHECK(rewritten.has_value() && *rewritten == *written);
}

/// Parses `bytes` and walks the result. True if they parse.
inline bool parse_and_walk(std::span<const std::byte> bytes) {
  const auto file = File::parse(bytes);
  if (!file) {
    CONCLAVE_CHECK(!file.error().message.empty());
    CONCLAVE_CHECK(base::utf8::valid(file.error().message));
    return false;
  }
  walk_metadata(file->metadata());
  std::size_t budget = kWalkElementsMax;
  for (const TensorInfo& tensor : file->tensors()) walk_tensor(*file, tensor, budget);
  check_round_trip(*file);
  return true;
}

}  // namespace conclave::gguf::test
