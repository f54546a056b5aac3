// The answer of an OpenAI server to a streamed chat: from bytes to text.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/http/response.hpp"
#include "conclave/http/sse.hpp"

namespace conclave::cli {

class ChatStream {
 public:
  /// `text` is called with each piece as it comes.
  explicit ChatStream(std::function<void(std::string_view piece)> text) : text_(std::move(text)) {}

  /// Takes the body in pieces cut anywhere. kUnavailable: the server reports an error;
  /// kCorruptData: it sends what is no such stream.
  base::Status push(std::string_view chunk);

  /// True once the server has said that the answer is whole.
  [[nodiscard]] bool is_done() const { return done_; }
  [[nodiscard]] const std::string& answer() const { return answer_; }
  /// "stop", "length", ..; empty before the end.
  [[nodiscard]] const std::string& finish_reason() const { return finish_reason_; }

 private:
  base::Status take(const std::string& data);

  std::function<void(std::string_view)> text_;
  http::SseParser parser_;
  std::string answer_;
  std::string finish_reason_;
  bool done_ = false;
};

/// What the server says about an error, and its status; kUnavailable.
base::Error server_error(const http::Response& response);

}  // namespace conclave::cli
