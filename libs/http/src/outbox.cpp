#include "outbox.hpp"

#include <fmt/format.h>

#include <iterator>
#include <utility>

namespace conclave::http {
namespace {

// A buffer that one large answer has blown up is not kept for the small ones after it.
constexpr std::size_t kKeptCapacity = std::size_t{64} << 10;

void recycle(std::string& buffer) {
  buffer.clear();
  if (buffer.capacity() > kKeptCapacity) buffer.shrink_to_fit();
}

}  // namespace

std::uint64_t Outbox::open(const Terms& terms) {
  const std::lock_guard lock(mutex_);
  state_ = State::kWaiting;
  terms_ = terms;
  has_body_ = false;
  chunked_ = false;
  awake_ = true;
  return ++number_;
}

void Outbox::take(Output& output) {
  recycle(output.bytes);
  recycle(output.body);
  const std::lock_guard lock(mutex_);
  std::swap(output.bytes, bytes_);
  std::swap(output.body, body_);
  taken_bytes_ = output.bytes.size() + output.body.size();
  awake_ = taken_bytes_ != 0;
  output.complete = state_ == State::kComplete;
  output.keep_alive = terms_.keep_alive;
  output.broken = broken_;
}

void Outbox::sent() {
  const std::lock_guard lock(mutex_);
  taken_bytes_ = 0;
}

void Outbox::finish() {
  const std::lock_guard lock(mutex_);
  state_ = State::kNone;
}

bool Outbox::complete() {
  const std::lock_guard lock(mutex_);
  return state_ == State::kComplete;
}

bool Outbox::overflowed() {
  const std::lock_guard lock(mutex_);
  return overflow_;
}

std::function<void()> Outbox::close() {
  const std::lock_guard lock(mutex_);
  lost_incomplete_ = state_ == State::kWaiting || state_ == State::kStreaming;
  state_ = State::kClosed;
  recycle(bytes_);
  recycle(body_);
  return std::exchange(on_close_, nullptr);
}

bool Outbox::is(std::uint64_t number, State state) const {
  return number == number_ && state == state_;
}

void Outbox::put_head(const Response& response, HeadTerms::Framing framing) {
  if (core_.draining.load(std::memory_order_relaxed)) terms_.keep_alive = false;
  HeadTerms head;
  head.framing = framing;
  head.keep_alive = terms_.keep_alive;
  head.http_1_0 = terms_.http_1_0;
  head.unix_time = core_.unix_time();
  append_head(bytes_, response, head);
}

// The callback goes to the caller, who lets it die without the lock: it may own anything.
void Outbox::complete_now(std::function<void()>& dropped) {
  state_ = State::kComplete;
  dropped = std::exchange(on_close_, nullptr);
}

bool Outbox::wake() { return !std::exchange(awake_, true); }

bool Outbox::respond(std::uint64_t number, Response&& response) {
  std::function<void()> dropped;
  const std::lock_guard lock(mutex_);
  if (!is(number, State::kWaiting)) return false;
  put_head(response, HeadTerms::Framing::kLength);
  if (!terms_.head_only && may_have_body(response.status)) body_ = std::move(response.body);
  complete_now(dropped);
  return wake();
}

bool Outbox::begin(std::uint64_t number, const Response& head) {
  const std::lock_guard lock(mutex_);
  if (!is(number, State::kWaiting)) return false;
  has_body_ = !terms_.head_only && may_have_body(head.status);
  chunked_ = !terms_.http_1_0;
  // Without chunks only the end of the connection can end the stream.
  if (has_body_ && !chunked_) terms_.keep_alive = false;
  put_head(head, chunked_ ? HeadTerms::Framing::kChunked : HeadTerms::Framing::kUntilClose);
  state_ = State::kStreaming;
  return wake();
}

bool Outbox::write(std::uint64_t number, const std::string& chunk, bool& wake_connection) {
  wake_connection = false;
  const std::lock_guard lock(mutex_);
  if (!is(number, State::kStreaming) || overflow_) return false;
  if (!has_body_ || chunk.empty()) return true;
  if (bytes_.size() + taken_bytes_ + chunk.size() > core_.options.stream_buffer_bytes_max) {
    overflow_ = true;
    // Taken at once, not when the write in progress ends: it may be the one that never does.
    awake_ = true;
    wake_connection = true;
    return false;
  }
  if (chunked_) fmt::format_to(std::back_inserter(bytes_), "{:x}\r\n", chunk.size());
  bytes_.append(chunk);
  if (chunked_) bytes_.append("\r\n");
  wake_connection = wake();
  return true;
}

bool Outbox::end(std::uint64_t number) {
  std::function<void()> dropped;
  const std::lock_guard lock(mutex_);
  if (!is(number, State::kStreaming) || overflow_) return false;
  if (has_body_ && chunked_) bytes_.append("0\r\n\r\n");
  complete_now(dropped);
  return wake();
}

bool Outbox::abandon(std::uint64_t number) {
  {
    const std::lock_guard lock(mutex_);
    if (is(number, State::kStreaming)) {
      broken_ = true;
      return wake();
    }
    if (!is(number, State::kWaiting)) return false;
  }
  return respond(number, core_.error(500, "The request was not answered."));
}

bool Outbox::on_close(std::uint64_t number, std::function<void()>& callback) {
  const std::lock_guard lock(mutex_);
  if (number != number_) return true;
  if (state_ == State::kClosed) return !lost_incomplete_;
  if (state_ == State::kWaiting || state_ == State::kStreaming) std::swap(on_close_, callback);
  return true;
}

}  // namespace conclave::http
