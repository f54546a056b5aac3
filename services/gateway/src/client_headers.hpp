// What a client's headers say about its request: an id of its own, and the trace it belongs to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "conclave/wire/common.hpp"

namespace conclave::gateway {

/// True if `id` may be logged, sent on and sent back: 1 to wire::kRequestIdBytesMax characters of
/// A-Z a-z 0-9 - _ . : / + = @ ~.
bool is_request_id(std::string_view id);

/// A W3C `traceparent` (version 00, or a later one's beginning); none if it is malformed: the trace
/// is then as good as absent.
std::optional<wire::TraceContext> parse_traceparent(std::string_view header);

/// 32 hexadecimal digits of two random numbers.
std::string hex_id(std::uint64_t high, std::uint64_t low);

/// True if a body of this Content-Type may be read as JSON; also if none is given.
bool is_json_type(std::string_view content_type);

}  // namespace conclave::gateway
