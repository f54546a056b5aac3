// A cursor over bytes from outside: every read is checked against what is left and names what it
// was after and where when there is too little.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "conclave/base/result.hpp"

namespace conclave::gguf {

class ByteReader {
 public:
  /// Reads no further than `size_max` bytes: what lies beyond is refused as too large, not as
  /// truncated.
  ByteReader(std::span<const std::byte> bytes, std::size_t size_max)
      : bytes_(bytes.first(std::min(bytes.size(), size_max))), cut_(bytes.size() > size_max) {}

  [[nodiscard]] std::size_t offset() const { return offset_; }
  [[nodiscard]] std::size_t remaining() const { return bytes_.size() - offset_; }
  /// Whether something failed because there were too few bytes: more of them might have been
  /// enough.
  [[nodiscard]] bool ran_out() const { return ran_out_; }

  /// The next `size` bytes in place.
  base::Result<std::span<const std::byte>> take(std::uint64_t size, std::string_view what) {
    if (size > remaining()) return truncated(size, what);
    const auto taken = bytes_.subspan(offset_, static_cast<std::size_t>(size));
    offset_ += taken.size();
    return taken;
  }

  /// A number as the file has it: little endian, at any alignment.
  template <class T>
  base::Result<T> read(std::string_view what) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    if (sizeof(T) > remaining()) return truncated(sizeof(T), what);
    T value{};
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  /// A string as the file has it: its length in 8 bytes, then its bytes. Borrowed.
  base::Result<std::string_view> read_string(std::string_view what, std::uint64_t size_max) {
    const std::size_t start = offset_;
    CONCLAVE_TRY(const auto size, read<std::uint64_t>(what));
    if (size > size_max) {
      return base::fail(base::ErrorCode::kCorruptData,
                        std::string(what) + " at offset " + std::to_string(start) + " has " +
                            std::to_string(size) + " bytes, more than the limit of " +
                            std::to_string(size_max));
    }
    CONCLAVE_TRY(const auto bytes, take(size, what));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  /// Refuses a count of things of at least `size_min` bytes each that cannot fit in what is left:
  /// asked before anything is reserved for them.
  [[nodiscard]] base::Status check_count(std::uint64_t count, std::uint64_t size_min,
                                         std::string_view what) const {
    if (count <= remaining() / size_min) return {};
    ran_out_ = true;
    return base::fail(base::ErrorCode::kCorruptData,
                      std::to_string(count) + " " + std::string(what) + " at offset " +
                          std::to_string(offset_) + " cannot fit in " + left());
  }

 private:
  [[nodiscard]] tl::unexpected<base::Error> truncated(std::uint64_t size,
                                                      std::string_view what) const {
    ran_out_ = true;
    return base::fail(base::ErrorCode::kCorruptData,
                      (cut_ ? "too large: " : "truncated: ") + std::string(what) + " at offset " +
                          std::to_string(offset_) + " needs " + std::to_string(size) +
                          " bytes of " + left());
  }

  [[nodiscard]] std::string left() const {
    const std::string limit = cut_ ? " within the limit of " + std::to_string(bytes_.size()) : "";
    return "the " + std::to_string(remaining()) + " bytes left" + limit;
  }

  std::span<const std::byte> bytes_;
  bool cut_ = false;  // there are more bytes than may be read
  mutable bool ran_out_ = false;
  std::size_t offset_ = 0;
};

}  // namespace conclave::gguf
