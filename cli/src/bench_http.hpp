// An HTTP/1.1 answer, from bytes to its body: as much of the protocol as a client of an API needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// Takes a connection's bytes in pieces cut anywhere, one answer after the other. Bounded: heads to
/// 64 KiB, lines between chunks to 4 KiB; bodies are passed on.
class HttpAnswer {
 public:
  /// The next answer begins.
  void begin();

  /// Takes bytes from the front of `bytes` and returns the next part of the body that is among
  /// them, empty if none is left or the answer is whole. Call it again while it returns a part.
  /// kCorruptData: no HTTP. Interim answers (1xx) are read over.
  base::Result<std::string_view> take(std::string_view& bytes);

  /// The connection has ended. kUnavailable unless the body ends like that.
  base::Status end();

  [[nodiscard]] bool whole() const { return state_ == State::kWhole; }
  /// 0 before the head is complete.
  [[nodiscard]] unsigned status() const { return status_; }
  /// Some byte of it has come.
  [[nodiscard]] bool begun() const { return begun_; }
  /// The connection takes another request after this answer.
  [[nodiscard]] bool stays_open() const { return stays_open_; }

 private:
  enum class State { kHead, kBody, kChunkSize, kChunk, kChunkEnd, kTrailer, kToClose, kWhole };

  base::Result<bool> take_line(std::string_view& bytes, std::size_t most);
  base::Status take_head_line();
  base::Status end_head();
  base::Status take_chunk_size();

  State state_ = State::kHead;
  std::string line_;
  std::size_t head_bytes_ = 0;
  unsigned status_ = 0;
  bool begun_ = false;
  bool stays_open_ = true;
  bool chunked_ = false;
  bool has_length_ = false;
  std::uint64_t left_ = 0;  // of the body, or of the chunk
};

}  // namespace conclave::cli
