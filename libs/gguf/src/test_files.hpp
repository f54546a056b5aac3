// Small GGUF files for the tests, the fuzz corpus and their mutations. Test code only.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/gguf/writer.hpp"

namespace conclave::gguf::test {

using Bytes = std::vector<std::byte>;

/// One key of each of the 13 types, and an array of each element type.
inline Metadata every_value_type() {
  Metadata m;
  m.set("u8", {std::uint8_t{250}});
  m.set("i8", {std::int8_t{-3}});
  m.set("u16", {std::uint16_t{65000}});
  m.set("i16", {std::int16_t{-300}});
  m.set("u32", {std::uint32_t{4000000000u}});
  m.set("i32", {std::int32_t{-70000}});
  m.set("f32", {1.5f});
  m.set("bool", {true});
  m.set("string", {std::string("caf\xC3\xA9")});
  m.set("u64", {std::uint64_t{1} << 63});
  m.set("i64", {std::int64_t{-5000000000}});
  m.set("f64", {0.1});
  m.set("array.u8", {Array(std::vector<std::uint8_t>{1, 2, 255})});
  m.set("array.i8", {Array(std::vector<std::int8_t>{-1, 2})});
  m.set("array.u16", {Array(std::vector<std::uint16_t>{1, 65535})});
  m.set("array.i16", {Array(std::vector<std::int16_t>{-1, 300})});
  m.set("array.u32", {Array(std::vector<std::uint32_t>{1, 4000000000u})});
  m.set("array.i32", {Array(std::vector<std::int32_t>{-1, 70000})});
  m.set("array.f32", {Array(std::vector<float>{-0.5f, 3.0f})});
  m.set("array.bool", {Array(std::vector<char>{1, 0, 1})});
  m.set("array.string", {Array(std::vector<std::string>{"", "a", "the"})});
  m.set("array.u64", {Array(std::vector<std::uint64_t>{7})});
  m.set("array.i64", {Array(std::vector<std::int64_t>{-7})});
  m.set("array.f64", {Array(std::vector<double>{0.25, 1e300})});
  m.set("array.empty", {Array(std::vector<std::uint32_t>{})});
  const auto row = [](std::uint8_t a) { return Value{Array(std::vector<std::uint8_t>{a, 9})}; };
  m.set("array.array", {Array(std::vector<Value>{row(1), row(2)})});
  return m;
}

/// `size` bytes of a fixed sequence, different at every place.
inline Bytes pattern(std::size_t size, std::uint32_t seed = 1) {
  Bytes bytes(size);
  std::uint32_t state = seed;
  for (std::byte& b : bytes) {
    state = state * 1664525u + 1013904223u;
    b = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

/// One tensor of one block of each type (F32, F16 and BF16: 8 elements); `data` keeps the bytes.
inline std::vector<WriterTensor> every_block_type(std::vector<Bytes>& data) {
  std::vector<WriterTensor> tensors;
  data.clear();
  data.reserve(kBlockTypes.size());
  for (const BlockType type : kBlockTypes) {
    const std::uint64_t elements = traits(type).elements == 1 ? 8 : traits(type).elements;
    data.push_back(pattern(*bytes_of(type, elements), static_cast<std::uint32_t>(type)));
    tensors.push_back({"t." + std::string(traits(type).name), {elements}, type, data.back()});
  }
  return tensors;
}

/// The bytes that the writer makes, which must exist.
inline Bytes make_file(const Metadata& metadata, std::span<const WriterTensor> tensors = {}) {
  auto bytes = serialize(metadata, tensors);
  CONCLAVE_CHECK(bytes.has_value());
  return std::move(*bytes);
}

/// Metadata of a part as gguf-split writes it.
inline Metadata split_metadata(std::uint16_t index, std::uint16_t count, std::int32_t tensors) {
  Metadata m;
  if (index == 0) m.set("general.architecture", {std::string("llama")});
  m.set("split.no", {index});
  m.set("split.count", {count});
  m.set("split.tensors.count", {tensors});
  return m;
}

/// Bytes of a file put together field by field, valid or not.
class RawFile {
 public:
  /// Magic, version 3 and the two counts.
  RawFile(std::uint64_t tensor_count, std::uint64_t key_count) {
    text("GGUF").number(std::uint32_t{3}).number(tensor_count).number(key_count);
  }

  template <class T>
  RawFile& number(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), from, from + sizeof value);
    return *this;
  }

  RawFile& text(std::string_view text) {
    const auto* from = reinterpret_cast<const std::byte*>(text.data());
    bytes_.insert(bytes_.end(), from, from + text.size());
    return *this;
  }

  RawFile& string(std::string_view value) {
    return number(std::uint64_t{value.size()}).text(value);
  }

  RawFile& tensor(std::string_view name, const std::vector<std::uint64_t>& shape,
                  std::uint32_t type, std::uint64_t offset) {
    string(name).number(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t dimension : shape) number(dimension);
    return number(type).number(offset);
  }

  /// Padding to the default alignment, then `size` zero bytes of tensor data.
  RawFile& data(std::size_t size) {
    bytes_.resize((bytes_.size() + 31) / 32 * 32 + size);
    return *this;
  }

  [[nodiscard]] const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace conclave::gguf::test
