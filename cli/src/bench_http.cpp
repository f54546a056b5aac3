#include "bench_http.hpp"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "conclave/base/text.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;

namespace {

constexpr std::size_t kHeadBytesMax = std::size_t{64} << 10;
// A chunk's size with its extensions, or a field of the trailer.
constexpr std::size_t kLineBytesMax = 4096;

std::optional<std::uint64_t> number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

void HttpAnswer::begin() {
  state_ = State::kHead;
  line_.clear();
  head_bytes_ = 0;
  status_ = 0;
  begun_ = false;
  stays_open_ = true;
  chunked_ = false;
  has_length_ = false;
  left_ = 0;
}

// True: line_ is a whole line, without its end.
base::Result<bool> HttpAnswer::take_line(std::string_view& bytes, std::size_t most) {
  const auto end = bytes.find('\n');
  const bool whole = end != std::string_view::npos;
  line_.append(bytes.substr(0, whole ? end : bytes.size()));
  bytes.remove_prefix(whole ? end + 1 : bytes.size());
  if (line_.size() > most) return fail(ErrorCode::kCorruptData, "a line of the answer is too long");
  if (whole && line_.ends_with('\r')) line_.pop_back();
  return whole;
}

base::Result<std::string_view> HttpAnswer::take(std::string_view& bytes) {
  begun_ = begun_ || !bytes.empty();
  while (!bytes.empty() && state_ != State::kWhole) {
    if (state_ == State::kToClose) return std::exchange(bytes, {});
    if (state_ == State::kBody || state_ == State::kChunk) {
      const auto part =
          bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size())));
      bytes.remove_prefix(part.size());
      left_ -= part.size();
      if (left_ == 0) state_ = state_ == State::kBody ? State::kWhole : State::kChunkEnd;
      return part;
    }
    const bool head = state_ == State::kHead;
    CONCLAVE_TRY(const bool line, take_line(bytes, head ? kHeadBytesMax : kLineBytesMax));
    if (!line) break;
    if (head) {
      CONCLAVE_TRY_VOID(take_head_line());
    } else if (state_ == State::kChunkSize) {
      CONCLAVE_TRY_VOID(take_chunk_size());
    } else if (state_ == State::kChunkEnd) {
      if (!line_.empty()) return fail(ErrorCode::kCorruptData, "a chunk is longer than its size");
      state_ = State::kChunkSize;
    } else if (line_.empty()) {  // of the trailer
      state_ = State::kWhole;
    }
    line_.clear();
  }
  return std::string_view();
}

base::Status HttpAnswer::take_head_line() {
  head_bytes_ += line_.size();
  if (head_bytes_ > kHeadBytesMax) return fail(ErrorCode::kCorruptData, "the head is too long");
  const std::string_view line = line_;
  if (status_ == 0) {
    const auto code = line.size() < 12 ? std::nullopt : number(line.substr(9, 3), 10);
    if (!line.starts_with("HTTP/1.") || !code || *code < 100) {
      return fail(ErrorCode::kCorruptData, "no HTTP: " + base::shown(line));
    }
    status_ = static_cast<unsigned>(*code);
    stays_open_ = !line.starts_with("HTTP/1.0");
    return {};
  }
  if (line.empty()) return end_head();
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) {
    return fail(ErrorCode::kCorruptData, "no header field: " + base::shown(line));
  }
  const auto name = line.substr(0, colon);
  const auto value = trimmed(line.substr(colon + 1));
  if (same(name, "Content-Length")) {
    const auto length = number(value, 10);
    if (!length) return fail(ErrorCode::kCorruptData, "no length: " + base::shown(value));
    has_length_ = true;
    left_ = *length;
  } else if (same(name, "Transfer-Encoding")) {
    chunked_ = same(value, "chunked");
  } else if (same(name, "Connection")) {
    stays_open_ = (stays_open_ && !same(value, "close")) || same(value, "keep-alive");
  }
  return {};
}

base::Status HttpAnswer::end_head() {
  if (status_ < 200) {  // the answer itself is still to come
    begin();
    begun_ = true;
  } else if (status_ == 204 || status_ == 304) {
    state_ = State::kWhole;
  } else if (chunked_) {
    state_ = State::kChunkSize;
  } else if (has_length_) {
    state_ = left_ == 0 ? State::kWhole : State::kBody;
  } else {
    stays_open_ = false;
    state_ = State::kToClose;
  }
  return {};
}

base::Status HttpAnswer::take_chunk_size() {
  const auto size = number(trimmed(std::string_view(line_).substr(0, line_.find(';'))), 16);
  if (!size) return fail(ErrorCode::kCorruptData, "no size of a chunk: " + base::shown(line_));
  left_ = *size;
  state_ = left_ == 0 ? State::kTrailer : State::kChunk;
  return {};
}

base::Status HttpAnswer::end() {
  if (state_ == State::kToClose) state_ = State::kWhole;
  if (whole()) return {};
  return fail(ErrorCode::kUnavailable, begun_ ? "the connection ends before the answer does"
                                              : "the server closed the connection");
}

}  // namespace conclave::cli
