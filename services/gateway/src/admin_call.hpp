// A request for administration on its way from the front to whoever owns what it is about.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "api_call.hpp"
#include "conclave/wire/admin.hpp"

namespace conclave::gateway {

struct AdminCall {
  ApiCall call;
  wire::AdminRequest request;  // without its subject
  wire::Sha256 secret{};       // of the key that it showed
};

/// Everything below it is administration.
inline constexpr std::string_view kAdminPrefix = "/admin/v1/";

/// True for paths that are about the fleet and its placement, which the scheduler owns; all others
/// are a registry's.
bool is_schedulers(std::string_view path);

/// The owner's answer as the client gets it.
http::Response admin_response(wire::AdminReply reply);

/// Why a key does not open this door: 401 for one that is none, else nothing. What a key's role
/// may do the owner of the path judges.
std::optional<ApiError> refusal_of(const wire::KeyAnswer& key);

}  // namespace conclave::gateway
