#include "admin_call.hpp"

#include <utility>

namespace conclave::gateway {

bool is_schedulers(std::string_view path) {
  path.remove_prefix(kAdminPrefix.size());
  for (const std::string_view owned : {"experts", "workers", "placement", "fleet"}) {
    if (!path.starts_with(owned)) continue;
    const std::string_view rest = path.substr(owned.size());
    if (rest.empty() || rest.front() == '/' || rest.front() == ':') return true;
  }
  return false;
}

http::Response admin_response(wire::AdminReply reply) {
  http::Response response;
  response.status = reply.status;
  response.content_type = std::move(reply.content_type);
  response.body = std::move(reply.body);
  const auto add = [&response](const char* name, std::string value) {
    response.headers.push_back({name, std::move(value)});
  };
  if (!reply.etag.empty()) add("ETag", std::move(reply.etag));
  if (!reply.location.empty()) add("Location", std::move(reply.location));
  if (reply.stale) add("x-conclave-stale", "true");
  if (reply.retry_after_s != 0) add("Retry-After", std::to_string(reply.retry_after_s));
  return response;
}

std::optional<ApiError> refusal_of(const wire::KeyAnswer& key) {
  if (key.valid) return std::nullopt;
  return ApiError{401, "This API key opens nothing: " + key.reason, {}, "invalid_api_key", 0};
}

}  // namespace conclave::gateway
