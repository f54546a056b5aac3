#include "api_call.hpp"

#include <utility>

namespace conclave::gateway {
namespace {

constexpr const char* kRequestIdHeader = "X-Request-Id";
constexpr const char* kVersionHeader = "X-Conclave-Model-Version";
constexpr const char* kDegradedHeader = "X-Conclave-Degraded";

}  // namespace

http::Response error_response(const ApiError& error) {
  http::Response response{.status = error.status, .body = error_body(error)};
  if (error.retry_after_s > 0) {
    response.headers.push_back({"Retry-After", std::to_string(error.retry_after_s)});
  }
  return response;
}

void ApiCall::respond(std::string json) { respond(http::Response{.body = std::move(json)}); }

void ApiCall::respond(http::Response response) {
  count(response.status);
  add_headers(response);
  exchange_->respond(std::move(response));
}

void ApiCall::fail(const ApiError& error) { respond(error_response(error)); }

void ApiCall::begin_stream() {
  count(200);
  http::Response head{.content_type = "text/event-stream; charset=utf-8"};
  head.headers.push_back({"Cache-Control", "no-cache"});
  head.headers.push_back({"X-Accel-Buffering", "no"});  // nginx would hold events back
  add_headers(head);
  exchange_->begin(std::move(head));
}

void ApiCall::add_headers(http::Response& response) const {
  response.headers.push_back({kRequestIdHeader, request_id_});
  if (!version_.empty()) response.headers.push_back({kVersionHeader, version_});
  response.headers.insert(response.headers.end(), quota_.begin(), quota_.end());
  if (!degraded_.empty()) response.headers.push_back({kDegradedHeader, std::string(degraded_)});
}

void ApiCall::abandon() { count(499); }

void ApiCall::count(unsigned status) {
  if (!std::exchange(counted_, true)) metrics_->answered(route_, status);
}

}  // namespace conclave::gateway
