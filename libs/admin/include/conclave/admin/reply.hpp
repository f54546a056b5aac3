// Answers of administration: JSON with its ETag, and errors in the shape of the API.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/base/error.hpp"
#include "conclave/wire/admin.hpp"

namespace conclave::admin {

/// The ETag of a record at this revision; with its quotation marks.
std::string etag_of(std::uint64_t revision);

/// `revision` 0: without an ETag.
wire::AdminReply json_reply(const boost::json::value& value, std::uint64_t revision = 0,
                            std::uint16_t status = 200);
/// 204.
wire::AdminReply empty_reply();
/// JSON lines, one object each.
wire::AdminReply lines_reply(std::string lines);

/// {"error":{message,type,param,code}} with the status that the code means: 400 kInvalidArgument,
/// 404 kNotFound, 409 kFailedPrecondition, 422 kCorruptData, 429 kOverloaded, 501 kUnimplemented,
/// 503 kUnavailable and kCancelled, 504 kDeadlineExceeded, 500 kInternal.
/// `param`: the field of the request that is at fault; empty: none is, or nobody said.
wire::AdminReply error_reply(const base::Error& error, std::string_view param = {});
/// The same with a status and a code of its own: 401, 403, 405, 412.
wire::AdminReply error_reply(std::uint16_t status, std::string_view code, std::string_view message);

}  // namespace conclave::admin
