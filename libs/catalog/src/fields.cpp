#include "fields.hpp"

#include <boost/json.hpp>
#include <set>

#include "conclave/base/text.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/catalog/reference.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::catalog {
namespace {

using base::Error;
using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace json = boost::json;

constexpr std::string_view kConflict = "changed meanwhile: ";

Status refuse(std::string_view what, const std::string& why) {
  return fail(ErrorCode::kInvalidArgument, std::string(what) + " " + why);
}

auto damaged(std::string_view what) {
  return fail(ErrorCode::kCorruptData, "the catalog's " + std::string(what) + " are no JSON");
}

Status check_count(std::string_view what, std::size_t count, std::size_t most) {
  if (count <= most) return {};
  return refuse(what,
                "has " + std::to_string(count) + " entries, and may have " + std::to_string(most));
}

Status check_pin(const std::string& what, const PinRule& pin) {
  CONCLAVE_TRY_VOID(check_name(what + ".worker_group", pin.worker_group));
  if (pin.first_layer > pin.last_layer) return refuse(what, "ends before its first layer");
  if (pin.first_expert > pin.last_expert) return refuse(what, "ends before its first expert");
  return {};
}

}  // namespace

bool is_conflict(const Error& error) {
  return error.code == ErrorCode::kFailedPrecondition && error.message.starts_with(kConflict);
}

Error conflict(std::string_view what, std::string_view is, std::string_view expected) {
  return {ErrorCode::kFailedPrecondition, std::string(kConflict) + std::string(what) + " is " +
                                              std::string(is) + ", not " + std::string(expected)};
}

Status check_text(std::string_view what, std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max) {
    return refuse(what, "has " + std::to_string(text.size()) + " bytes, and may have " +
                            std::to_string(bytes_max));
  }
  if (!base::utf8::valid(text)) return refuse(what, "is not valid UTF-8");
  if (text.find('\0') != std::string_view::npos) return refuse(what, "has a NUL character");
  return {};
}

Status check_tags(const std::map<std::string, std::string>& tags) {
  CONCLAVE_TRY_VOID(check_count("tags", tags.size(), kTagsMax));
  for (const auto& [key, value] : tags) {
    if (key.empty()) return refuse("tags", "has a tag without a name");
    CONCLAVE_TRY_VOID(check_text("tags: a name", key, kTagBytesMax));
    CONCLAVE_TRY_VOID(check_text("tags." + base::printable(key), value, kTagBytesMax));
  }
  return {};
}

Status check_notes(const VersionNotes& notes) {
  CONCLAVE_TRY_VOID(check_text("description", notes.description, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("licence", notes.licence, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("source_uri", notes.source_uri, kTextBytesMax));
  if (!notes.parent.empty()) {
    const auto parent = parse_reference(notes.parent);
    if (!parent || parent->version == 0) return refuse("parent", "is no name:version");
  }
  CONCLAVE_TRY_VOID(check_text("metadata", notes.metadata, kJsonBytesMax));
  json::error_code error;
  json::parse_options options;
  options.max_depth = 32;
  const json::value value = json::parse(notes.metadata, error, {}, options);
  if (error || !value.is_object()) return refuse("metadata", "is no JSON object");
  return {};
}

Status check_deployment(const Deployment& deployment) {
  constexpr std::uint32_t kWeightMax = 1'000'000;
  constexpr std::uint32_t kFloorMax = 64;  // replicas of every expert
  CONCLAVE_TRY_VOID(check_name("deployment name", deployment.name));
  if (deployment.split.empty()) return refuse("split", "is empty");
  CONCLAVE_TRY_VOID(check_count("split", deployment.split.size(), kSplitsMax));
  std::set<std::string> seen;
  for (std::size_t i = 0; i < deployment.split.size(); ++i) {
    const Split& split = deployment.split[i];
    const std::string what = "split[" + std::to_string(i) + "]";
    if (split.weight == 0 || split.weight > kWeightMax) {
      return refuse(what + ".weight", "is not 1 to " + std::to_string(kWeightMax));
    }
    if (!seen.insert(split.reference).second) return refuse(what, "is there twice");
  }
  if (deployment.shadow_percent > 100) return refuse("shadow_percent", "is above 100");
  CONCLAVE_TRY_VOID(check_count("pins", deployment.pins.size(), kPinsMax));
  for (std::size_t i = 0; i < deployment.pins.size(); ++i) {
    CONCLAVE_TRY_VOID(check_pin("pins[" + std::to_string(i) + "]", deployment.pins[i]));
  }
  if (deployment.replica_floor > kFloorMax) {
    return refuse("replica_floor", "is above " + std::to_string(kFloorMax));
  }
  return {};
}

Status check_change(const Change& change) {
  CONCLAVE_TRY_VOID(check_text("actor", change.actor, kActorBytesMax));
  return check_text("request_id", change.request_id, kActorBytesMax);
}

Status check_usage(const UsageRow& row) {
  // 32,768 rows of it may be added up before a 63-bit sum is full.
  constexpr std::uint64_t kCountMax = std::uint64_t{1} << 48;
  constexpr std::int32_t kDayMax = 100'000;  // the year 2243
  CONCLAVE_TRY_VOID(check_text("tenant", row.tenant, kActorBytesMax));
  CONCLAVE_TRY_VOID(check_text("key_id", row.key_id, kActorBytesMax));
  CONCLAVE_TRY_VOID(check_text("model", row.model, kActorBytesMax));
  if (row.day < 0 || row.day > kDayMax) return refuse("day", "is out of range");
  const UsageCounts& c = row.counts;
  for (const std::uint64_t count :
       {c.requests, c.prompt_tokens, c.completion_tokens, c.expert_pairs, c.device_us}) {
    if (count > kCountMax) return refuse("a count", "is above 2^48");
  }
  return {};
}

Status check_limit(std::uint32_t limit) {
  if (limit != 0 && limit <= wire::kListMax) return {};
  return fail(ErrorCode::kInvalidArgument, "a page has 1 to " + std::to_string(wire::kListMax) +
                                               " entries, not " + std::to_string(limit));
}

std::string tags_text(const std::map<std::string, std::string>& tags) {
  json::object object;
  for (const auto& [key, value] : tags) object[key] = value;
  return json::serialize(object);
}

Result<std::map<std::string, std::string>> tags_of(std::string_view text) {
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return damaged("tags");
  std::map<std::string, std::string> tags;
  for (const auto& [key, tag] : value.get_object()) {
    if (!tag.is_string()) return damaged("tags");
    tags.emplace(key, tag.get_string());
  }
  return tags;
}

std::string list_text(const std::vector<std::string>& list) {
  json::array array;
  for (const std::string& entry : list) array.emplace_back(entry);
  return json::serialize(array);
}

Result<std::vector<std::string>> list_of(std::string_view text) {
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_array()) return damaged("lists");
  std::vector<std::string> list;
  for (const json::value& entry : value.get_array()) {
    if (!entry.is_string()) return damaged("lists");
    list.emplace_back(entry.get_string());
  }
  return list;
}

}  // namespace conclave::catalog
