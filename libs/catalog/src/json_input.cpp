// Records that people write: every member is checked, and named when it is wrong.
#include <boost/json.hpp>
#include <functional>
#include <string>
#include <utility>

#include "conclave/base/text.hpp"
#include "conclave/catalog/json.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace json = boost::json;

Status refuse(const std::string& member, const std::string& why) {
  return fail(ErrorCode::kInvalidArgument, member + " " + why);
}

using Take = std::function<Status(const std::string& member, const json::value& value)>;
struct Member {
  std::string_view name;
  Take take;
};

// What the store sets itself: a record that was read may be sent back with it.
bool is_ours(std::string_view name) {
  return name == "name" || name == "tenant" || name == "created_unix_ms" ||
         name == "updated_unix_ms" || name == "revision";
}

Status read_members(const std::string& where, const json::object& object,
                    std::initializer_list<Member> members) {
  for (const auto& [name, value] : object) {
    bool known = where.empty() && is_ours(name);
    for (const Member& member : members) {
      if (member.name != std::string_view(name)) continue;
      known = true;
      CONCLAVE_TRY_VOID(member.take(where + std::string(name), value));
    }
    if (!known) return refuse(where + base::printable(name), "is no member that there is");
  }
  return {};
}

Take into(std::string& out) {
  return [&out](const std::string& member, const json::value& value) -> Status {
    if (!value.is_string()) return refuse(member, "is no string");
    out = std::string(value.get_string());
    return {};
  };
}

template <std::unsigned_integral Integer>
Take into(Integer& out) {
  return [&out](const std::string& member, const json::value& value) -> Status {
    json::error_code error;
    const auto number = value.to_number<Integer>(error);
    if (error || !(value.is_int64() || value.is_uint64())) {
      return refuse(member, "is no whole number in range");
    }
    out = number;
    return {};
  };
}

template <class Enum>
Take into(Enum& out, std::optional<Enum> (*value_of)(std::string_view)) {
  return [&out, value_of](const std::string& member, const json::value& value) -> Status {
    const auto found =
        value.is_string() ? value_of(std::string_view(value.get_string())) : std::nullopt;
    if (!found) return refuse(member, "is none of its words");
    out = *found;
    return {};
  };
}

// An array of objects, at most as long as anything here may be.
template <class T>
Take into(std::vector<T>& out, Status (*read)(const std::string&, const json::object&, T&)) {
  return [&out, read](const std::string& member, const json::value& value) -> Status {
    if (!value.is_array()) return refuse(member, "is no array");
    if (value.get_array().size() > kPinsMax) return refuse(member, "is too long");
    for (std::size_t i = 0; i < value.get_array().size(); ++i) {
      const std::string where = member + "[" + std::to_string(i) + "]";
      const json::value& entry = value.get_array()[i];
      if (!entry.is_object()) return refuse(where, "is no object");
      T made;
      CONCLAVE_TRY_VOID(read(where + ".", entry.get_object(), made));
      out.push_back(std::move(made));
    }
    return {};
  };
}

Status read_split(const std::string& where, const json::object& object, Split& split) {
  return read_members(where, object,
                      {{"reference", into(split.reference)}, {"weight", into(split.weight)}});
}

Status read_pin(const std::string& where, const json::object& object, PinRule& pin) {
  return read_members(where, object,
                      {{"worker_group", into(pin.worker_group)},
                       {"first_layer", into(pin.first_layer)},
                       {"last_layer", into(pin.last_layer)},
                       {"first_expert", into(pin.first_expert)},
                       {"last_expert", into(pin.last_expert)}});
}

}  // namespace

Result<Deployment> deployment_from_json(const json::object& object) {
  Deployment deployment;
  CONCLAVE_TRY_VOID(read_members("", object,
                                 {{"split", into<Split>(deployment.split, read_split)},
                                  {"sticky", into<Stickiness>(deployment.sticky, stickiness_of)},
                                  {"shadow", into(deployment.shadow)},
                                  {"shadow_percent", into(deployment.shadow_percent)},
                                  {"pins", into<PinRule>(deployment.pins, read_pin)},
                                  {"replica_floor", into(deployment.replica_floor)},
                                  {"policy", into<DegradedPolicy>(deployment.policy, policy_of)}}));
  return deployment;
}

Result<Quota> quota_from_json(const json::object& object) {
  Quota quota;
  CONCLAVE_TRY_VOID(read_members("", object,
                                 {{"requests_per_minute", into(quota.requests_per_minute)},
                                  {"tokens_per_minute", into(quota.tokens_per_minute)},
                                  {"tokens_per_day", into(quota.tokens_per_day)},
                                  {"tokens_per_month", into(quota.tokens_per_month)},
                                  {"concurrent_requests", into(quota.concurrent_requests)}}));
  return quota;
}

}  // namespace conclave::catalog
