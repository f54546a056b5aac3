// The records as JSON: in the audit, in the HTTP API, and in the database where a record is one
// value. Names as in records.hpp; enumerations as words; times in milliseconds since 1970.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/catalog/records.hpp"

namespace conclave::catalog {

boost::json::object to_json(const Model& model);
boost::json::object to_json(const Version& version);
boost::json::object to_json(const Alias& alias);
boost::json::object to_json(const Deployment& deployment);
boost::json::object to_json(const Tenant& tenant);
boost::json::object to_json(const ApiKey& key);
boost::json::object to_json(const Quota& quota);
boost::json::object to_json(const UsageSum& sum);
boost::json::object to_json(const UsageCounts& counts);
/// `before` and `after` as values, `hash` in hex: a line of the export is this.
boost::json::object to_json(const AuditRecord& record);
boost::json::object to_json(const Lease& lease);

/// "draft", "published", "archived"; "none", "user", "session"; "wait", "next-best", "fail";
/// "inference", "read", "admin"; "total", "day", "model", "key", "tenant".
std::string_view to_string(VersionState state);
std::string_view to_string(Stickiness sticky);
std::string_view to_string(DegradedPolicy policy);
std::string_view to_string(Role role);
std::string_view to_string(UsageBy by);
std::optional<Stickiness> stickiness_of(std::string_view text);
std::optional<DegradedPolicy> policy_of(std::string_view text);
std::optional<Role> role_of(std::string_view text);
std::optional<UsageBy> usage_by_of(std::string_view text);

/// What people write of a deployment: all but name, times and revision, which are not read. Members
/// that it does not know are refused. kInvalidArgument names the member ("split[1].weight").
base::Result<Deployment> deployment_from_json(const boost::json::object& object);
/// As above, without the tenant and the revision.
base::Result<Quota> quota_from_json(const boost::json::object& object);

/// "2025-06-15", and back; UTC. kInvalidArgument: not of that form, or no such day.
std::string format_day(std::int32_t day);
base::Result<std::int32_t> parse_day(std::string_view text);
/// The day of a time, and the first moment of a day.
std::int32_t day_of(std::int64_t unix_ms);

}  // namespace conclave::catalog
