// What a client is told when something is wrong: OpenAI's error object with its HTTP status.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

#include "conclave/base/error.hpp"

namespace conclave::gateway {

struct ApiError {
  unsigned status = 400;
  std::string message;
  std::string param;  // the field that is wrong, `messages[0].role`; empty: none
  std::string code;   // for programs, `context_length_exceeded`; empty: none
  /// Seconds after which it makes sense to try again, sent as Retry-After; 0: not sent.
  unsigned retry_after_s = 0;
  std::string type;  // empty: what follows from the status

  friend bool operator==(const ApiError&, const ApiError&) = default;
};

/// The value, or what is wrong with the request.
template <class T>
using Parsed = tl::expected<T, ApiError>;

/// 400, naming the field.
ApiError invalid_field(std::string param, std::string message, std::string code = {});

ApiError unknown_model(std::string_view model);

/// 503: it will go later, or elsewhere.
ApiError unavailable(std::string message, std::string code = "service_unavailable");

/// 429: this gateway has as much to do as it may take.
ApiError overloaded(std::string message);

/// What a router answered, or said within a stream, as the client sees it. `prompt_field` is what
/// the client would have to shorten if the context is too small.
ApiError from_router(const base::Error& error, std::string_view prompt_field);

/// True if experts were missing that the deployment's policy does not wait for.
bool is_experts_missing(const ApiError& error);

/// {"error":{"message":..,"type":..,"param":..,"code":..}}; `type` follows from the status, as
/// OpenAI's does, where the error names none.
std::string error_body(const ApiError& error);

}  // namespace conclave::gateway
