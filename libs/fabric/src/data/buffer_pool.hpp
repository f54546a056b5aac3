// Cache-line aligned memory for payloads that travel as frames, kept for the next call: a large
// allocation is otherwise mapped, faulted in page by page and unmapped again, which costs fifty
// times what the copy into it does.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace conclave::fabric {

class BufferPool;

/// Memory of the pool; goes back when this dies, on any thread. Its contents are arbitrary.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { give_back(); }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;

  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] bool empty() const { return data_ == nullptr; }

 private:
  friend class BufferPool;
  void give_back();

  std::shared_ptr<BufferPool> pool_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t size_class_ = 0;
};

/// Any thread: ZeroMQ frees what it has sent on a thread of its own, perhaps after the sender died.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  /// Keeps at most `kept_bytes_max` for later; what comes back beyond it is freed.
  static std::shared_ptr<BufferPool> create(std::size_t kept_bytes_max);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  Buffer get(std::size_t bytes);

  /// Bytes that wait for their next use.
  [[nodiscard]] std::size_t kept_bytes() const;
  /// Bytes of buffers that are in use, those that ZeroMQ has yet to send included.
  [[nodiscard]] std::size_t lent_bytes() const;

 private:
  friend class Buffer;
  explicit BufferPool(std::size_t kept_bytes_max) : kept_bytes_max_(kept_bytes_max) {}
  void put(std::byte* data, std::size_t size, std::size_t size_class);

  // Powers of two from 4 KiB, a small call, to 1 GiB, the largest payload.
  static constexpr std::size_t kSmallestBits = 12;
  static constexpr std::size_t kClasses = 19;

  const std::size_t kept_bytes_max_;
  mutable std::mutex mutex_;  // guards what follows
  std::array<std::vector<std::byte*>, kClasses> free_;
  std::size_t kept_bytes_ = 0;
  std::size_t lent_bytes_ = 0;
};

}  // namespace conclave::fabric
