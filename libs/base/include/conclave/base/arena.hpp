// Memory for what is written once and read for hours, such as weights: large runs of pages instead
// of one allocation for each matrix, on huge pages where they fill some, not touched before they
// are written. A fault of 2 MB instead of 512 of 4 KB loads faster, and fewer translations are
// missed while computing. It is no general allocator: blocks do not grow, and room that was given
// back is not handed out again.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>

#include "conclave/base/result.hpp"

namespace conclave::base {

/// A piece of an arena, which it may outlive. Owns its bytes: all whole pages of it go back to the
/// system with it.
class ArenaBlock {
 public:
  ArenaBlock() = default;
  ~ArenaBlock();
  ArenaBlock(ArenaBlock&& other) noexcept;
  ArenaBlock& operator=(ArenaBlock&& other) noexcept;
  ArenaBlock(const ArenaBlock&) = delete;
  ArenaBlock& operator=(const ArenaBlock&) = delete;

  /// Starts on a cache line; zero until written.
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  friend class Arena;
  class Run;
  ArenaBlock(std::shared_ptr<Run> run, std::byte* data, std::size_t size);

  // Shared, since the run goes when the last of its blocks and the arena are gone, in any order.
  std::shared_ptr<Run> run_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Any thread may allocate. Takes memory only as blocks are written, so what was expected and not
/// needed costs address space only.
class Arena {
 public:
  /// `expected_bytes`: what will be allocated in all, each block rounded up to block_bytes(). More
  /// is possible, in further runs; a good guess makes one run that ends where its blocks do.
  explicit Arena(std::size_t expected_bytes) : expected_bytes_(expected_bytes) {}

  /// What a block of `bytes` takes.
  static std::size_t block_bytes(std::size_t bytes);

  /// kOverloaded: the system has no room.
  Result<ArenaBlock> allocate(std::size_t bytes);

 private:
  std::mutex mutex_;  // guards all that follows
  std::size_t expected_bytes_;
  std::shared_ptr<ArenaBlock::Run> run_;  // the newest
  std::size_t used_ = 0;                  // of it
};

}  // namespace conclave::base
