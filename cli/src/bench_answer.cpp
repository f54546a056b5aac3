#include "bench_answer.hpp"

#include <boost/json.hpp>

#include "conclave/base/text.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

namespace {

// Far above any answer that a benchmark asks for.
constexpr std::size_t kBodyBytesMax = std::size_t{16} << 20;

const json::value* member(const json::value* value, std::string_view name) {
  const json::object* object = value == nullptr ? nullptr : value->if_object();
  return object == nullptr ? nullptr : object->if_contains(name);
}

std::optional<std::uint64_t> count(const json::value* value) {
  if (value == nullptr) return std::nullopt;
  boost::system::error_code error;
  const auto number = value->to_number<std::uint64_t>(error);
  return error ? std::nullopt : std::optional(number);
}

std::optional<AnswerUsage> usage_of(const json::value* answer) {
  const json::value* usage = member(answer, "usage");
  const auto output = count(member(usage, "completion_tokens"));
  if (!output) return std::nullopt;
  return AnswerUsage{
      .prompt_tokens = count(member(usage, "prompt_tokens")).value_or(0),
      .output_tokens = *output,
      .cached_tokens = count(member(member(usage, "prompt_tokens_details"), "cached_tokens"))};
}

const json::value* first_choice(const json::value* answer) {
  const json::value* choices = member(answer, "choices");
  const json::array* list = choices == nullptr ? nullptr : choices->if_array();
  return list == nullptr || list->empty() ? nullptr : &list->front();
}

bool has_text(const json::value* value) {
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text != nullptr && !text->empty();
}

bool finished(const json::value* choice) {
  const json::value* reason = member(choice, "finish_reason");
  return reason != nullptr && reason->is_string();
}

// A token may have no text of its own (half a character, a special token). What only opens a
// message (its role) or only ends it is no token.
bool brings_output(const json::value* choice) {
  const json::value* delta = member(choice, "delta");
  if (has_text(member(choice, "text")) || has_text(member(delta, "content")) ||
      has_text(member(delta, "reasoning_content")) || has_text(member(delta, "reasoning"))) {
    return true;
  }
  return choice != nullptr && !finished(choice) && member(delta, "role") == nullptr;
}

std::string error_text(const json::value* error) {
  const json::value* message = member(error, "message");
  if (has_text(message)) return base::printable(message->get_string());
  if (has_text(error)) return base::printable(error->get_string());
  return "the server reports an error";
}

}  // namespace

void AnswerReader::begin(bool stream) {
  stream_ = stream;
  parser_ = http::SseParser();
  body_.clear();
  first_s_.reset();
  gaps_s_.clear();
  pieces_ = 0;
  usage_.reset();
  whole_ = false;
}

base::Status AnswerReader::push(std::string_view bytes, double now_s) {
  if (!stream_) {
    if (body_.size() + bytes.size() > kBodyBytesMax) {
      return fail(ErrorCode::kCorruptData, "the answer exceeds 16 MiB");
    }
    body_.append(bytes);
    return {};
  }
  CONCLAVE_TRY(const auto events, parser_.push(bytes));
  for (const http::SseEvent& event : events) CONCLAVE_TRY_VOID(take_event(event.data, now_s));
  return {};
}

base::Status AnswerReader::take_event(std::string_view data, double now_s) {
  if (data == "[DONE]") {
    whole_ = true;
    return {};
  }
  // An event is some hundred bytes: room for its values without an allocation.
  alignas(std::max_align_t) unsigned char room[4096];
  json::monotonic_resource memory(room, sizeof room);
  boost::system::error_code error;
  const json::value event = json::parse(data, error, &memory);
  if (error) return fail(ErrorCode::kCorruptData, "an event is no JSON: " + base::shown(data));
  if (const json::value* problem = member(&event, "error")) {
    return fail(ErrorCode::kUnavailable, error_text(problem));
  }
  if (const auto usage = usage_of(&event)) usage_ = usage;
  const json::value* choice = first_choice(&event);
  if (brings_output(choice)) piece(now_s);
  if (finished(choice)) {
    whole_ = true;
    if (!first_s_) first_s_ = now_s;  // an answer without text has come with its end
  }
  return {};
}

void AnswerReader::piece(double now_s) {
  if (first_s_) {
    gaps_s_.push_back(static_cast<float>(now_s - last_s_));
  } else {
    first_s_ = now_s;
  }
  last_s_ = now_s;
  ++pieces_;
}

base::Status AnswerReader::end() {
  if (stream_) {
    if (!whole_) return fail(ErrorCode::kCorruptData, "the stream ends before its answer does");
    return {};
  }
  boost::system::error_code error;
  const json::value answer = json::parse(body_, error);
  if (error || first_choice(&answer) == nullptr) {
    return fail(ErrorCode::kCorruptData, "no answer with choices: " + base::shown(body_));
  }
  usage_ = usage_of(&answer);
  return {};
}

}  // namespace conclave::cli
