// A file descriptor that is closed in the end, and reading and writing all of a range through one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "conclave/base/result.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::artifacts {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// The system's reason for `errno`, about `path`: kNotFound or kUnavailable.
tl::unexpected<base::Error> system_error(const std::filesystem::path& path, int error);

/// A range of an open file.
struct FileRange {
  int fd = -1;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

/// All of `bytes` at `offset`. kUnavailable: the disk is full, or broken.
base::Status write_at(int fd, std::uint64_t offset, std::span<const std::byte> bytes);

/// The bytes of `from`, in the order given, to `to` from `offset` on (unless it is -1), through
/// `hasher` (unless it is null). kCorruptData: a file is shorter than its range.
base::Status copy(std::span<const FileRange> from, int to, std::uint64_t offset,
                  model::Sha256Hasher* hasher);

}  // namespace conclave::artifacts
