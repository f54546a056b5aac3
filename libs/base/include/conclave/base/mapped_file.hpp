// A file mapped read-only. Pages come in when they are touched, so opening costs nothing and a
// reader of one expert reads only that expert's bytes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "conclave/base/result.hpp"

namespace conclave::base {

/// Owns the mapping; the bytes live as long as the object (moving keeps them in place).
/// Safe to read from any thread. A file that is truncated by someone else after `open` raises
/// SIGBUS on access, as with any mapping: published model files are immutable.
class MappedFile {
 public:
  /// kNotFound (no such file), kInvalidArgument (not a regular file), kUnavailable (the system
  /// refused; the message has its reason). An empty file maps to an empty span.
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Asks the system to read these bytes, which soon will be wanted. Returns at once; only advice.
  void will_need(std::span<const std::byte> bytes) const;
  /// Lets go of the memory in which these bytes are mapped: they no longer count as this process's,
  /// stay in the system's cache, and come back when they are touched. Only advice.
  void forget(std::span<const std::byte> bytes) const;

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace conclave::base
