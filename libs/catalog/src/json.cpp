#include "conclave/catalog/json.hpp"

#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <utility>

#include "conclave/base/text.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

json::array array_of(const std::vector<std::string>& list) {
  json::array array;
  for (const std::string& entry : list) array.emplace_back(entry);
  return array;
}

// Text that is JSON already; null if there is none.
json::value parsed(const std::string& text) {
  json::error_code error;
  json::value value = json::parse(text, error);
  return error ? json::value() : value;
}

template <class Enum>
using Word = std::pair<Enum, std::string_view>;

constexpr Word<Stickiness> kStickiness[] = {
    {Stickiness::kNone, "none"}, {Stickiness::kUser, "user"}, {Stickiness::kSession, "session"}};
constexpr Word<DegradedPolicy> kPolicies[] = {{DegradedPolicy::kWait, "wait"},
                                              {DegradedPolicy::kNextBest, "next-best"},
                                              {DegradedPolicy::kFail, "fail"}};
constexpr Word<Role> kRoles[] = {
    {Role::kInference, "inference"}, {Role::kRead, "read"}, {Role::kAdmin, "admin"}};
constexpr Word<UsageBy> kUsageBy[] = {{UsageBy::kTotal, "total"},
                                      {UsageBy::kDay, "day"},
                                      {UsageBy::kModel, "model"},
                                      {UsageBy::kKey, "key"},
                                      {UsageBy::kTenant, "tenant"}};

template <class Enum, std::size_t Count>
std::string_view word_of(const Word<Enum> (&words)[Count], Enum value) {
  for (const auto& [known, word] : words) {
    if (known == value) return word;
  }
  return "?";
}

template <class Enum, std::size_t Count>
std::optional<Enum> value_of(const Word<Enum> (&words)[Count], std::string_view text) {
  for (const auto& [known, word] : words) {
    if (word == text) return known;
  }
  return {};
}

}  // namespace

std::string_view to_string(VersionState state) {
  switch (state) {
    case VersionState::kDraft:
      return "draft";
    case VersionState::kPublished:
      return "published";
    case VersionState::kArchived:
      return "archived";
  }
  return "?";
}
std::string_view to_string(Stickiness sticky) { return word_of(kStickiness, sticky); }
std::string_view to_string(DegradedPolicy policy) { return word_of(kPolicies, policy); }
std::string_view to_string(Role role) { return word_of(kRoles, role); }
std::string_view to_string(UsageBy by) { return word_of(kUsageBy, by); }
std::optional<Stickiness> stickiness_of(std::string_view text) {
  return value_of(kStickiness, text);
}
std::optional<DegradedPolicy> policy_of(std::string_view text) { return value_of(kPolicies, text); }
std::optional<Role> role_of(std::string_view text) { return value_of(kRoles, text); }
std::optional<UsageBy> usage_by_of(std::string_view text) { return value_of(kUsageBy, text); }

json::object to_json(const Model& model) {
  json::object tags;
  for (const auto& [key, value] : model.tags) tags[key] = value;
  json::object aliases;
  for (const auto& [name, version] : model.aliases) aliases[name] = version;
  return {{"name", model.name},
          {"description", model.description},
          {"tags", std::move(tags)},
          {"newest", model.newest},
          {"versions", model.versions},
          {"aliases", std::move(aliases)},
          {"created_unix_ms", model.created_unix_ms},
          {"updated_unix_ms", model.updated_unix_ms},
          {"revision", model.revision}};
}

json::object to_json(const Version& version) {
  const wire::ModelRecord& r = version.record;
  json::object object = {{"model", r.model.name},
                         {"version", r.model.version},
                         {"state", to_string(version.state)},
                         {"sha256", r.model.sha256},
                         {"uris", array_of(version.uris)},
                         {"bytes", r.bytes},
                         {"architecture", r.architecture},
                         {"block_types", r.block_types},
                         {"parameters", r.parameters},
                         {"context_length", r.context_length},
                         {"layers", r.layers},
                         {"dense_layers", r.dense_layers},
                         {"experts", r.experts},
                         {"experts_used", r.experts_used},
                         {"expert_bytes", r.expert_bytes},
                         {"backbone_bytes", r.backbone_bytes},
                         {"aliases", array_of(r.aliases)},
                         {"description", version.notes.description},
                         {"licence", version.notes.licence},
                         {"source_uri", version.notes.source_uri},
                         {"parent", version.notes.parent},
                         {"metadata", parsed(version.notes.metadata)},
                         {"created_unix_ms", r.created_unix_ms},
                         {"published_unix_ms", version.published_unix_ms},
                         {"archived_unix_ms", version.archived_unix_ms},
                         {"revision", version.revision}};
  if (!version.chat_template.empty()) object["chat_template"] = version.chat_template;
  return object;
}

json::object to_json(const Alias& alias) {
  return {{"model", alias.model},
          {"name", alias.name},
          {"version", alias.version},
          {"updated_unix_ms", alias.updated_unix_ms},
          {"revision", alias.revision}};
}

json::object to_json(const Deployment& deployment) {
  json::array split;
  for (const Split& part : deployment.split) {
    split.push_back(json::object{{"reference", part.reference}, {"weight", part.weight}});
  }
  json::array pins;
  for (const PinRule& pin : deployment.pins) {
    json::object rule = {{"worker_group", pin.worker_group},
                         {"first_layer", pin.first_layer},
                         {"first_expert", pin.first_expert}};
    if (pin.last_layer != UINT32_MAX) rule["last_layer"] = pin.last_layer;
    if (pin.last_expert != UINT32_MAX) rule["last_expert"] = pin.last_expert;
    pins.push_back(std::move(rule));
  }
  return {{"name", deployment.name},
          {"split", std::move(split)},
          {"sticky", to_string(deployment.sticky)},
          {"shadow", deployment.shadow},
          {"shadow_percent", deployment.shadow_percent},
          {"pins", std::move(pins)},
          {"replica_floor", deployment.replica_floor},
          {"policy", to_string(deployment.policy)},
          {"created_unix_ms", deployment.created_unix_ms},
          {"updated_unix_ms", deployment.updated_unix_ms},
          {"revision", deployment.revision}};
}

json::object to_json(const Tenant& tenant) {
  return {{"name", tenant.name},
          {"description", tenant.description},
          {"created_unix_ms", tenant.created_unix_ms},
          {"revision", tenant.revision}};
}

json::object to_json(const ApiKey& key) {
  return {{"id", key.id},
          {"tenant", key.tenant},
          {"name", key.name},
          {"prefix", key.prefix},
          {"role", to_string(key.role)},
          {"models", array_of(key.models)},
          {"created_unix_ms", key.created_unix_ms},
          {"expires_unix_ms", key.expires_unix_ms},
          {"revoked_unix_ms", key.revoked_unix_ms},
          {"revision", key.revision}};
}

json::object to_json(const Quota& quota) {
  return {{"tenant", quota.tenant},
          {"requests_per_minute", quota.requests_per_minute},
          {"tokens_per_minute", quota.tokens_per_minute},
          {"tokens_per_day", quota.tokens_per_day},
          {"tokens_per_month", quota.tokens_per_month},
          {"concurrent_requests", quota.concurrent_requests},
          {"revision", quota.revision}};
}

json::object to_json(const UsageCounts& counts) {
  return {{"requests", counts.requests},
          {"prompt_tokens", counts.prompt_tokens},
          {"completion_tokens", counts.completion_tokens},
          {"expert_pairs", counts.expert_pairs},
          {"device_us", counts.device_us}};
}

json::object to_json(const UsageSum& sum) {
  json::object object = to_json(sum.counts);
  if (!sum.group.empty()) object["group"] = sum.group;
  if (sum.group.empty() && sum.day != 0) object["day"] = format_day(sum.day);
  return object;
}

json::object to_json(const AuditRecord& record) {
  return {{"sequence", record.sequence},
          {"at_unix_ms", record.at_unix_ms},
          {"actor", record.actor},
          {"request_id", record.request_id},
          {"action", record.action},
          {"subject", record.subject},
          {"before", parsed(record.before)},
          {"after", parsed(record.after)},
          {"hash", model::to_hex(record.hash)}};
}

json::object to_json(const Lease& lease) {
  return {{"name", lease.name},
          {"holder", lease.holder},
          {"token", lease.token},
          {"expires_unix_ms", lease.expires_unix_ms}};
}

std::int32_t day_of(std::int64_t unix_ms) {
  return static_cast<std::int32_t>(
      std::chrono::floor<std::chrono::days>(std::chrono::milliseconds(unix_ms)).count());
}

std::string format_day(std::int32_t day) {
  const std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(day))};
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", int{date.year()}, unsigned{date.month()},
                unsigned{date.day()});
  return text;
}

Result<std::int32_t> parse_day(std::string_view text) {
  int parts[3] = {0, 0, 0};
  bool good = text.size() == 10;
  for (std::size_t i = 0, part = 0; good && i < text.size(); ++i) {
    if (i == 4 || i == 7) {
      good = text[i] == '-';
      ++part;
    } else {
      good = text[i] >= '0' && text[i] <= '9';
      parts[part] = 10 * parts[part] + (text[i] - '0');
    }
  }
  const std::chrono::year_month_day date{std::chrono::year(parts[0]),
                                         std::chrono::month(static_cast<unsigned>(parts[1])),
                                         std::chrono::day(static_cast<unsigned>(parts[2]))};
  if (!good || !date.ok()) {
    return fail(ErrorCode::kInvalidArgument, base::shown(text) + " is no day as 2025-06-15");
  }
  return static_cast<std::int32_t>(std::chrono::sys_days(date).time_since_epoch().count());
}

}  // namespace conclave::catalog
