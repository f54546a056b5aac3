#include "api_error.hpp"

#include "conclave/base/text.hpp"
#include "json_writer.hpp"

namespace conclave::gateway {

using base::ErrorCode;

namespace {

// Long enough for a burst to pass, short enough that nobody gives up.
constexpr unsigned kRetryAfterS = 1;

std::string_view type_of(unsigned status) {
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

// Routers word both overflows, of the prompt alone and with max_tokens, with these words; an error
// of the wire has no finer code than kInvalidArgument.
bool is_context_overflow(const base::Error& error) {
  return error.code == ErrorCode::kInvalidArgument &&
         error.message.find("the context of") != std::string::npos;
}

// A dispatcher's words where the policy is to fail.
bool says_experts_missing(const base::Error& error) {
  return error.message.find("experts are missing") != std::string::npos;
}

constexpr const char* kExpertsMissing = "experts_unavailable";

void write_or_null(JsonWriter& json, const std::string& text) {
  if (text.empty()) {
    json.null();
  } else {
    json.text(text);
  }
}

}  // namespace

ApiError invalid_field(std::string param, std::string message, std::string code) {
  return {400, std::move(message), std::move(param), std::move(code)};
}

ApiError unknown_model(std::string_view model) {
  return {404, "The model " + base::shown(model) + " does not exist.", "model", "model_not_found"};
}

ApiError unavailable(std::string message, std::string code) {
  return {503, std::move(message), {}, std::move(code), kRetryAfterS};
}

ApiError overloaded(std::string message) {
  return {429, std::move(message), {}, "overloaded", kRetryAfterS};
}

ApiError from_router(const base::Error& error, std::string_view prompt_field) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      if (is_context_overflow(error)) {
        return {400, error.message, std::string(prompt_field), "context_length_exceeded"};
      }
      return {400, error.message, {}, "invalid_value"};
    case ErrorCode::kFailedPrecondition:
      return {400, error.message, {}, "failed_precondition"};
    case ErrorCode::kNotFound:
      return {404, error.message, "model", "model_not_found"};
    case ErrorCode::kOverloaded:
      return overloaded(error.message);
    case ErrorCode::kUnavailable:
      if (says_experts_missing(error)) return unavailable(error.message, kExpertsMissing);
      return unavailable(error.message);
    case ErrorCode::kCancelled:
      return unavailable("The request was cancelled: " + error.message);
    case ErrorCode::kDeadlineExceeded:
      return {504, error.message, {}, "deadline_exceeded"};
    case ErrorCode::kCorruptData:
      return {502, error.message, {}, "corrupt_data"};
    case ErrorCode::kUnimplemented:
      return {501, error.message, {}, "unimplemented"};
    case ErrorCode::kInternal:
      return {500, error.message, {}, "internal_error"};
  }
  return {500, error.message, {}, "internal_error"};
}

bool is_experts_missing(const ApiError& error) { return error.code == kExpertsMissing; }

std::string error_body(const ApiError& error) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("error").begin_object();
  json.key("message").text(error.message);
  json.key("type").text(error.type.empty() ? type_of(error.status) : error.type);
  json.key("param");
  write_or_null(json, error.param);
  json.key("code");
  write_or_null(json, error.code);
  json.end_object().end_object();
  return body;
}

}  // namespace conclave::gateway
