#include "conclave/admin/reply.hpp"

#include <boost/json/serialize.hpp>
#include <utility>

namespace conclave::admin {

using base::ErrorCode;
namespace json = boost::json;

namespace {

// Soon enough for people, seldom enough for scripts.
constexpr std::uint32_t kRetryAfterS = 1;

std::uint16_t status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 400;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kFailedPrecondition:
      return 409;
    case ErrorCode::kCorruptData:
      return 422;
    case ErrorCode::kOverloaded:
      return 429;
    case ErrorCode::kUnimplemented:
      return 501;
    case ErrorCode::kUnavailable:
    case ErrorCode::kCancelled:
      return 503;
    case ErrorCode::kDeadlineExceeded:
      return 504;
    case ErrorCode::kInternal:
      return 500;
  }
  return 500;
}

std::string_view type_of(std::uint16_t status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

wire::AdminReply refused(std::uint16_t status, std::string_view code, std::string_view message,
                         std::string_view param) {
  const json::value field = param.empty() ? json::value() : json::value(param);
  wire::AdminReply reply = json_reply(
      {{"error",
        {{"message", message}, {"type", type_of(status)}, {"param", field}, {"code", code}}}},
      0, status);
  if (status == 429 || status == 503) reply.retry_after_s = kRetryAfterS;
  return reply;
}

}  // namespace

std::string etag_of(std::uint64_t revision) { return '"' + std::to_string(revision) + '"'; }

wire::AdminReply json_reply(const json::value& value, std::uint64_t revision,
                            std::uint16_t status) {
  wire::AdminReply reply;
  reply.status = status;
  reply.content_type = "application/json";
  reply.body = json::serialize(value);
  if (revision != 0) reply.etag = etag_of(revision);
  return reply;
}

wire::AdminReply empty_reply() { return {.status = 204}; }

wire::AdminReply lines_reply(std::string lines) {
  return {.status = 200, .content_type = "application/jsonl", .body = std::move(lines)};
}

wire::AdminReply error_reply(std::uint16_t status, std::string_view code,
                             std::string_view message) {
  return refused(status, code, message, {});
}

wire::AdminReply error_reply(const base::Error& error, std::string_view param) {
  return refused(status_of(error.code), to_string(error.code), error.message, param);
}

}  // namespace conclave::admin
