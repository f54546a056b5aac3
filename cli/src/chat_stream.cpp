#include "chat_stream.hpp"

#include <boost/json.hpp>

#include "conclave/base/text.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

namespace {

// The string at `path`, or nullptr.
const json::string* string_at(const json::value& value, const char* path) {
  boost::system::error_code absent;
  const json::value* found = value.find_pointer(path, absent);
  return found == nullptr ? nullptr : found->if_string();
}

}  // namespace

base::Status ChatStream::push(std::string_view chunk) {
  CONCLAVE_TRY(const auto events, parser_.push(chunk));
  for (const http::SseEvent& event : events) CONCLAVE_TRY_VOID(take(event.data));
  return {};
}

base::Status ChatStream::take(const std::string& data) {
  if (data == "[DONE]") {
    done_ = true;
    return {};
  }
  boost::system::error_code error;
  const json::value event = json::parse(data, error);
  if (error) {
    return fail(ErrorCode::kCorruptData,
                "the server sent an event that is no JSON: " + base::shown(data));
  }
  const json::object* object = event.if_object();
  if (object != nullptr && object->contains("error")) {
    const json::string* message = string_at(event, "/error/message");
    return fail(ErrorCode::kUnavailable,
                message == nullptr ? "the server reports an error" : std::string(*message));
  }
  if (const json::string* reason = string_at(event, "/choices/0/finish_reason")) {
    finish_reason_ = *reason;
  }
  if (const json::string* content = string_at(event, "/choices/0/delta/content")) {
    answer_ += *content;
    text_(*content);
  }
  return {};
}

base::Error server_error(const http::Response& response) {
  const std::string status = "status " + std::to_string(response.status);
  boost::system::error_code error;
  const json::value body = json::parse(response.body, error);
  const json::string* message = error ? nullptr : string_at(body, "/error/message");
  return {ErrorCode::kUnavailable, message == nullptr
                                       ? "the server answers with " + status
                                       : std::string(*message) + " (" + status + ")"};
}

}  // namespace conclave::cli
