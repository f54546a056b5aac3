// Bytes that came and are not parsed yet, in one piece. Grows when reads fill it, up to a bound.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace conclave::http {

class ReadBuffer {
 public:
  /// Starts with `bytes_min` and never has more than `bytes_max`.
  ReadBuffer(std::size_t bytes_min, std::size_t bytes_max)
      : capacity_(bytes_min), bytes_max_(bytes_max), data_(new char[bytes_min]) {}

  [[nodiscard]] std::string_view unread() const { return {data_.get() + begin_, end_ - begin_}; }
  [[nodiscard]] bool empty() const { return begin_ == end_; }
  [[nodiscard]] bool full() const { return end_ - begin_ == bytes_max_; }

  /// Where the next bytes go; empty only if full().
  std::span<char> prepare() {
    if (begin_ != 0) {
      std::memmove(data_.get(), data_.get() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == capacity_ || filled_) grow();
    return {data_.get() + end_, capacity_ - end_};
  }

  /// `count` bytes have come into the prepared space.
  void commit(std::size_t count) {
    filled_ = end_ + count == capacity_;  // more was there: the next read takes more at once
    end_ += count;
  }

  void consume(std::size_t count) { begin_ += count; }

 private:
  void grow() {
    filled_ = false;
    if (capacity_ == bytes_max_) return;
    const std::size_t capacity = capacity_ * 2 < bytes_max_ ? capacity_ * 2 : bytes_max_;
    std::unique_ptr<char[]> data(new char[capacity]);
    std::memcpy(data.get(), data_.get(), end_);
    data_ = std::move(data);
    capacity_ = capacity;
  }

  std::size_t capacity_;
  std::size_t bytes_max_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool filled_ = false;
  std::unique_ptr<char[]> data_;
};

}  // namespace conclave::http
