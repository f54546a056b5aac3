// Memory that a router and a worker of one host both map: an anonymous file that its descriptor
// alone names (memfd), so nothing is left behind by a crash, no other process can find it, and the
// size of /dev/shm, which containers keep small, does not matter.
//
// The router makes it, the worker maps it. Sealed: neither can make it shorter, which would kill
// the other (SIGBUS) at its next access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "descriptor.hpp"

namespace conclave::fabric {

class SharedSegment {
 public:
  /// kUnavailable: the system gives no such memory.
  static base::Result<SharedSegment> create(std::size_t bytes);
  /// Maps what a peer made. kInvalidArgument: it is no sealed memory file, is empty, or is larger
  /// than `bytes_max`.
  static base::Result<SharedSegment> open(Descriptor descriptor, std::size_t bytes_max);
  ~SharedSegment();
  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&&) = delete;

  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }

  /// Takes the pages up to `end` from the system now, so that no later access can fail for want of
  /// memory. kUnavailable: there are none. Only its maker calls this.
  base::Status reserve(std::size_t end);

 private:
  SharedSegment(Descriptor descriptor, std::byte* data, std::size_t size)
      : descriptor_(std::move(descriptor)), data_(data), size_(size) {}

  Descriptor descriptor_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t reserved_ = 0;
};

/// Which parts of a segment are in use: first fit, lowest first, so that what is used again is in
/// the caches already. As many blocks as a link has calls: few.
class BlockList {
 public:
  explicit BlockList(std::size_t bytes) : bytes_(bytes) {}

  /// The offset, on a cache line; nothing if no gap is large enough.
  std::optional<std::size_t> take(std::size_t bytes);
  void give_back(std::size_t offset);

 private:
  struct Block {
    std::size_t first = 0;
    std::size_t end = 0;
  };

  const std::size_t bytes_;
  std::vector<Block> taken_;  // by offset
};

}  // namespace conclave::fabric
