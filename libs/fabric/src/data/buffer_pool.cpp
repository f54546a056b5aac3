#include "buffer_pool.hpp"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include "conclave/base/aligned.hpp"
#include "conclave/base/check.hpp"

namespace conclave::fabric {

namespace {

constexpr std::align_val_t kAlignment{base::kCacheLine};

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    give_back();
    pool_ = std::move(other.pool_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    size_class_ = other.size_class_;
  }
  return *this;
}

void Buffer::give_back() {
  if (data_ != nullptr) pool_->put(std::exchange(data_, nullptr), size_, size_class_);
  pool_.reset();
}

std::shared_ptr<BufferPool> BufferPool::create(std::size_t kept_bytes_max) {
  return std::shared_ptr<BufferPool>(new BufferPool(kept_bytes_max));
}

BufferPool::~BufferPool() {
  for (const auto& list : free_) {
    for (std::byte* data : list) ::operator delete(data, kAlignment);
  }
}

Buffer BufferPool::get(std::size_t bytes) {
  const auto bits = static_cast<std::size_t>(std::bit_width(std::max<std::size_t>(bytes, 1) - 1));
  Buffer buffer;
  buffer.size_class_ = std::max(bits, kSmallestBits) - kSmallestBits;
  CONCLAVE_CHECK(buffer.size_class_ < kClasses);
  buffer.size_ = bytes;
  buffer.pool_ = shared_from_this();
  const std::size_t capacity = std::size_t{1} << (buffer.size_class_ + kSmallestBits);
  {
    const std::lock_guard lock(mutex_);
    lent_bytes_ += bytes;
    auto& list = free_[buffer.size_class_];
    if (!list.empty()) {
      buffer.data_ = list.back();
      list.pop_back();
      kept_bytes_ -= capacity;
      return buffer;
    }
  }
  buffer.data_ = static_cast<std::byte*>(::operator new(capacity, kAlignment));
  return buffer;
}

void BufferPool::put(std::byte* data, std::size_t size, std::size_t size_class) {
  const std::size_t capacity = std::size_t{1} << (size_class + kSmallestBits);
  {
    const std::lock_guard lock(mutex_);
    lent_bytes_ -= size;
    if (kept_bytes_ + capacity <= kept_bytes_max_) {
      free_[size_class].push_back(data);
      kept_bytes_ += capacity;
      return;
    }
  }
  ::operator delete(data, kAlignment);
}

std::size_t BufferPool::kept_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

std::size_t BufferPool::lent_bytes() const {
  const std::lock_guard lock(mutex_);
  return lent_bytes_;
}

}  // namespace conclave::fabric
