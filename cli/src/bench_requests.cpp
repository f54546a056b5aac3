#include "bench_requests.hpp"

#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>

#include "conclave/engine/philox.hpp"

namespace conclave::cli {
namespace {

// Common ones, which most vocabularies have as one token with their space.
constexpr std::array<std::string_view, 32> kWords = {
    "the",  "of",    "and", "to",   "in",  "is",  "that", "for", "it",  "as",   "was",
    "with", "be",    "by",  "on",   "not", "he",  "this", "are", "or",  "his",  "from",
    "at",   "which", "but", "have", "an",  "had", "they", "you", "one", "there"};

// Draws of a prompt: those of the shared prefix first, then those of the request. 2^32 tokens and
// as many requests have draws of their own.
class Draws {
 public:
  Draws(const RequestShape& shape, std::uint64_t index)
      : seed_(shape.seed),
        shared_(static_cast<std::uint32_t>(std::lround(shape.prefix_share * shape.prompt_tokens))),
        request_((index + 1) << 32) {}

  /// Below `bound`, for token `position`.
  [[nodiscard]] std::uint32_t at(std::uint32_t position, std::uint32_t bound) const {
    const std::uint64_t place = (position < shared_ ? 0 : request_) | position;
    return static_cast<std::uint32_t>(engine::uniform_draw(seed_, place) * bound);
  }

 private:
  std::uint64_t seed_;
  std::uint32_t shared_;
  std::uint64_t request_;
};

void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 24> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  out.append(text.data(), end);
}

void append_words(std::string& out, const RequestShape& shape, const Draws& draws) {
  for (std::uint32_t i = 0; i < shape.prompt_tokens; ++i) {
    if (i > 0) out += ' ';
    out += kWords[draws.at(i, kWords.size())];
  }
}

void append_prompt(std::string& out, const RequestShape& shape, const Draws& draws) {
  switch (shape.input) {
    case PromptInput::kIds:
      out += "\"prompt\":[";
      for (std::uint32_t i = 0; i < shape.prompt_tokens; ++i) {
        if (i > 0) out += ',';
        append_number(out, draws.at(i, shape.vocab));
      }
      out += ']';
      return;
    case PromptInput::kText:
      out += "\"prompt\":\"";
      append_words(out, shape, draws);
      out += '"';
      return;
    case PromptInput::kChat:
      out += R"("messages":[{"role":"user","content":")";
      append_words(out, shape, draws);
      out += "\"}]";
      return;
  }
}

}  // namespace

std::string_view endpoint(PromptInput input) {
  return input == PromptInput::kChat ? "/v1/chat/completions" : "/v1/completions";
}

std::string request_body(const RequestShape& shape, std::uint64_t index) {
  std::string out;
  out.reserve(256 + std::size_t{shape.prompt_tokens} * 6);
  out += "{\"model\":" + boost::json::serialize(boost::json::string(shape.model)) + ',';
  append_prompt(out, shape, Draws(shape, index));
  out += ",\"max_tokens\":";
  append_number(out, shape.new_tokens);
  out += ",\"temperature\":" + boost::json::serialize(boost::json::value(shape.temperature));
  out += ",\"seed\":";
  append_number(out, index);
  if (shape.ignore_eos) out += ",\"ignore_eos\":true";
  out += shape.stream ? R"(,"stream":true,"stream_options":{"include_usage":true}})" : "}";
  return out;
}

}  // namespace conclave::cli
