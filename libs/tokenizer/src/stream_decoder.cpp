#include "conclave/tokenizer/stream_decoder.hpp"

#include <utility>

#include "conclave/base/utf8.hpp"
#include "render.hpp"

namespace conclave::tokenizer {

std::string StreamDecoder::push(TokenId id) {
  pending_ += render(*tokenizer_, id, options_, at_start_);
  const std::size_t held = base::utf8::incomplete_suffix(pending_);
  const std::size_t ready = pending_.size() - held;
  std::string text = base::utf8::sanitize(std::string_view(pending_).substr(0, ready));
  pending_.erase(0, ready);
  return text;
}

std::string StreamDecoder::flush() {
  std::string text = base::utf8::sanitize(pending_);
  pending_.clear();
  at_start_ = options_.strip_leading_space;
  return text;
}

}  // namespace conclave::tokenizer
