// The answer of an OpenAI endpoint, as a benchmark reads it: when its tokens came and what the
// server counts. Texts are not kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/http/sse.hpp"

namespace conclave::cli {

struct AnswerUsage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t output_tokens = 0;
  std::optional<std::uint64_t> cached_tokens;  // of the prompt; not every server tells
};

/// One answer at a time; begin() makes it new. Times are seconds of any clock.
class AnswerReader {
 public:
  /// A streamed answer comes as server-sent events, another one as one JSON object.
  void begin(bool stream);

  /// Bytes of the body, cut anywhere. kUnavailable: the server reports an error in the stream;
  /// kCorruptData: no such answer, or one larger than 16 MiB. Not used further after an error.
  base::Status push(std::string_view bytes, double now_s);

  /// After the last byte. kCorruptData: the answer is not whole.
  base::Status end();

  /// When the first piece of output came, or the end of an answer without any; none: it is not
  /// streamed.
  [[nodiscard]] std::optional<double> first_s() const { return first_s_; }
  /// Seconds between one piece and the next.
  [[nodiscard]] const std::vector<float>& gaps_s() const { return gaps_s_; }
  /// Events that brought output: a token each, as most servers do it.
  [[nodiscard]] std::uint64_t pieces() const { return pieces_; }
  [[nodiscard]] const std::optional<AnswerUsage>& usage() const { return usage_; }

 private:
  base::Status take_event(std::string_view data, double now_s);
  void piece(double now_s);

  bool stream_ = true;
  http::SseParser parser_;
  std::string body_;  // of an answer that is not streamed
  std::optional<double> first_s_;
  double last_s_ = 0.0;
  std::vector<float> gaps_s_;
  std::uint64_t pieces_ = 0;
  std::optional<AnswerUsage> usage_;
  bool whole_ = false;
};

}  // namespace conclave::cli
