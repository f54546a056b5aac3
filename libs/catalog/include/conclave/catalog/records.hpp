// What the catalog keeps, as plain values: what its calls take and give. How they look as JSON is
// json.hpp; how they are stored is nobody's business but the store's.
//
// Every record that may change has a `revision`: the number of the change that made it what it is.
// It only rises, is never used twice, and is what the HTTP API gives out as the ETag.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conclave/wire/registry.hpp"

namespace conclave::catalog {

/// Bounds of what people write. Text is valid UTF-8 without NUL characters.
inline constexpr std::size_t kTextBytesMax = 4096;                   // descriptions, licences, URIs
inline constexpr std::size_t kTagsMax = 64;                          // of a model
inline constexpr std::size_t kTagBytesMax = 256;                     // each of key and value
inline constexpr std::size_t kJsonBytesMax = std::size_t{64} << 10;  // free JSON of a version
inline constexpr std::size_t kTemplateBytesMax = std::size_t{1} << 20;  // as libs/jinja takes them
inline constexpr std::size_t kUrisMax = 16;      // places where one version's bytes lie
inline constexpr std::size_t kAliasesMax = 100;  // of one model: they travel in its record
inline constexpr std::size_t kSplitsMax = 16;    // versions that share one deployment's traffic
inline constexpr std::size_t kPinsMax = 64;      // pinning rules of one deployment
inline constexpr std::size_t kDeploymentsMax = 1000;  // all of them travel to every gateway
inline constexpr std::size_t kTenantsMax = 10'000;
inline constexpr std::size_t kKeysMax = 100'000;      // over all tenants, revoked ones too
inline constexpr std::size_t kKeyModelsMax = 64;      // models that one key may name
inline constexpr std::size_t kUsageRowsMax = 10'000;  // of one batch
inline constexpr std::size_t kUsageDaysMax = 3'660;   // of one question: ten years
inline constexpr std::size_t kUsageSumsMax = 10'000;  // of one answer
inline constexpr std::size_t kLeasesMax = 1000;       // names of leases
inline constexpr std::size_t kActorBytesMax = 256;    // of actors and request ids in the audit
inline constexpr std::size_t kOperationsKept = 256;   // of those that have ended
inline constexpr std::size_t kOperationsRunningMax = 1000;  // by all registries together
inline constexpr std::size_t kOperationResultBytesMax = std::size_t{1} << 20;  // JSON

/// Who changes what, and on which condition; every changing call takes one, and what it says is in
/// the audit record that is written in the same transaction.
struct Change {
  std::string actor;       // "key:<id>", "node:<name>", "cli": who asked
  std::string request_id;  // of the call that asked; may be empty
  std::int64_t now_unix_ms = 0;
  /// The record must be at this revision, 0: must not exist yet; otherwise the call fails with an
  /// error for which is_conflict() is true. Nothing: whatever it is.
  std::optional<std::uint64_t> if_revision;
  /// Everything is checked and answered as if it were done (revisions are what they would be), and
  /// nothing is done.
  bool dry_run = false;
};

/// A name under which versions are.
struct Model {
  std::string name;
  std::string description;
  std::map<std::string, std::string> tags;
  std::uint32_t newest = 0;    // published version; 0: none
  std::uint32_t versions = 0;  // drafts and archived ones too
  std::map<std::string, std::uint32_t> aliases;
  std::int64_t created_unix_ms = 0;
  std::int64_t updated_unix_ms = 0;
  std::uint64_t revision = 0;  // of its texts; not of versions and aliases

  friend bool operator==(const Model&, const Model&) = default;
};

/// What of a model's texts is to be replaced.
struct ModelEdit {
  std::optional<std::string> description;
  std::optional<std::map<std::string, std::string>> tags;
};

/// A draft may still be described anew or removed; a published version is frozen, and serves; an
/// archived one is kept, and nothing new may point at it.
enum class VersionState : std::uint8_t { kDraft = 1, kPublished = 2, kArchived = 3 };

/// What people say of a version, as the file cannot know it.
struct VersionNotes {
  std::string description;
  std::string licence;          // empty: what the file says
  std::string source_uri;       // where its bytes came from first
  std::string parent;           // "name:version" it was made of; it need not be in this catalog
  std::string metadata = "{}";  // a JSON object

  friend bool operator==(const VersionNotes&, const VersionNotes&) = default;
};

/// One immutable set of bytes.
struct Version {
  wire::ModelRecord record;  // record.model.uri is the first of `uris`
  VersionState state = VersionState::kPublished;
  std::vector<std::string> uris;  // where its bytes were last seen, newest first
  VersionNotes notes;
  std::string chat_template;           // Jinja; empty in listings, where the metadata is {}, too
  std::int64_t published_unix_ms = 0;  // 0: not yet
  std::int64_t archived_unix_ms = 0;   // 0: not yet
  std::uint64_t revision = 0;          // of state and notes; not of aliases and URIs

  friend bool operator==(const Version&, const Version&) = default;
};

struct VersionPage {
  std::vector<Version> versions;
  bool more = false;
};

struct ModelPage {
  std::vector<Model> models;
  bool more = false;
};

struct Alias {
  std::string model;
  std::string name;
  std::uint32_t version = 0;
  std::int64_t updated_unix_ms = 0;
  std::uint64_t revision = 0;

  friend bool operator==(const Alias&, const Alias&) = default;
};

/// How a request stays with one version of a split: by the user, or the session, that it names.
enum class Stickiness : std::uint8_t { kNone = 0, kUser = 1, kSession = 2 };

/// What happens to a request that needs an expert of which no replica is left.
enum class DegradedPolicy : std::uint8_t { kWait = 0, kNextBest = 1, kFail = 2 };

/// A part of a deployment's traffic.
struct Split {
  std::string reference;     // reference.hpp; an alias moves with what it points at
  std::uint32_t weight = 1;  // share of all weights; 1 to 1,000,000

  friend bool operator==(const Split&, const Split&) = default;
};

/// Experts that only workers of one group may host. Bounds are inclusive.
struct PinRule {
  std::string worker_group;
  std::uint32_t first_layer = 0;
  std::uint32_t last_layer = UINT32_MAX;
  std::uint32_t first_expert = 0;
  std::uint32_t last_expert = UINT32_MAX;

  friend bool operator==(const PinRule&, const PinRule&) = default;
};

/// What is served under one public name.
struct Deployment {
  std::string name;          // as clients write it in `model`; as reference.hpp's names
  std::vector<Split> split;  // at least one
  Stickiness sticky = Stickiness::kNone;
  std::string shadow;                // reference whose answers nobody sees; empty: none
  std::uint32_t shadow_percent = 0;  // of requests; 0 to 100
  std::vector<PinRule> pins;
  std::uint32_t replica_floor = 0;  // of every expert; 0: the scheduler's setting
  DegradedPolicy policy = DegradedPolicy::kWait;
  std::int64_t created_unix_ms = 0;
  std::int64_t updated_unix_ms = 0;
  std::uint64_t revision = 0;

  friend bool operator==(const Deployment&, const Deployment&) = default;
};

struct Tenant {
  std::string name;  // as reference.hpp's names
  std::string description;
  std::int64_t created_unix_ms = 0;
  std::uint64_t revision = 0;

  friend bool operator==(const Tenant&, const Tenant&) = default;
};

/// kAdmin: everything; kRead: looks at everything; kInference: asks models.
enum class Role : std::uint8_t { kInference = 1, kRead = 2, kAdmin = 3 };

/// An API key without its secret, which is shown once and never stored: access.hpp.
struct ApiKey {
  std::string id;  // "key-" and 16 hex digits of the secret's sum
  std::string tenant;
  std::string name;    // for people
  std::string prefix;  // how its secret begins, to recognise it
  Role role = Role::kInference;
  std::vector<std::string> models;  // public names or models it may ask; empty: all
  std::int64_t created_unix_ms = 0;
  std::int64_t expires_unix_ms = 0;  // 0: never
  std::int64_t revoked_unix_ms = 0;  // 0: not revoked
  std::uint64_t revision = 0;

  friend bool operator==(const ApiKey&, const ApiKey&) = default;
};

struct NewApiKey {
  std::string tenant;
  std::string name;
  Role role = Role::kInference;
  std::vector<std::string> models;
  std::int64_t expires_unix_ms = 0;
};

/// Limits of one tenant; 0: none.
struct Quota {
  std::string tenant;
  std::uint64_t requests_per_minute = 0;
  std::uint64_t tokens_per_minute = 0;
  std::uint64_t tokens_per_day = 0;
  std::uint64_t tokens_per_month = 0;
  std::uint32_t concurrent_requests = 0;
  std::uint64_t revision = 0;  // 0: nobody set one

  friend bool operator==(const Quota&, const Quota&) = default;
};

struct UsageCounts {
  std::uint64_t requests = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t expert_pairs = 0;
  std::uint64_t device_us = 0;  // time of devices, in microseconds

  friend bool operator==(const UsageCounts&, const UsageCounts&) = default;
};

/// What one key used of one model on one day. Names need not exist (any more), nor follow rules of
/// names: usage is kept whatever happened to them. An empty tenant, key or model is stored as "-".
struct UsageRow {
  std::string tenant;
  std::string key_id;
  std::string model;
  std::int32_t day = 0;  // since 1970-01-01, UTC
  UsageCounts counts;

  friend bool operator==(const UsageRow&, const UsageRow&) = default;
};

/// What the rows of an answer stand for; kTotal: one row for all.
enum class UsageBy : std::uint8_t { kTotal = 0, kDay = 1, kModel = 2, kKey = 3, kTenant = 4 };

/// Days from `first_day` to `last_day`, both inclusive, at most kUsageDaysMax.
struct UsageQuery {
  std::string tenant;  // empty: all, as the next two
  std::string key_id;
  std::string model;
  std::int32_t first_day = 0;
  std::int32_t last_day = 0;
  UsageBy by = UsageBy::kDay;
};

struct UsageSum {
  std::string group;     // model, key or tenant; empty by day and in total
  std::int32_t day = 0;  // by day only
  UsageCounts counts;

  friend bool operator==(const UsageSum&, const UsageSum&) = default;
};

/// One change, or one event that somebody reported, and the sum that chains it to all before it:
/// SHA-256 over the previous sum and all fields but `hash`, each with its length before it.
struct AuditRecord {
  std::uint64_t sequence = 0;  // from 1, without gaps; the revision that the change made
  std::int64_t at_unix_ms = 0;
  std::string actor;
  std::string request_id;
  std::string action;   // "version.publish"
  std::string subject;  // "qwen:3"
  std::string before;   // JSON; empty: did not exist
  std::string after;    // JSON; empty: does not exist any more
  wire::Sha256 hash{};

  friend bool operator==(const AuditRecord&, const AuditRecord&) = default;
};

/// Something that is to be remembered though it changes no record: a worker refused an expert.
struct AuditEvent {
  std::string action;
  std::string subject;
  std::string details;  // JSON
};

struct AuditQuery {
  std::uint64_t after = 0;    // sequence of the last record of the page before
  std::uint32_t limit = 100;  // 1 to wire::kListMax
  std::string actor;          // empty: all, as the next two
  std::string action;         // as it is, or "version.*"
  std::string subject;
};

struct AuditPage {
  std::vector<AuditRecord> records;  // by rising sequence
  bool more = false;
};

/// What a walk over the whole chain found.
struct AuditCheck {
  std::uint64_t records = 0;
  std::uint64_t first_bad = 0;  // sequence; 0: the chain is whole
  std::string problem;          // empty: none
};

enum class OperationState : std::uint8_t { kRunning = 1, kDone = 2, kFailed = 3 };

/// What makes two requests the same work, and who does it.
struct NewOperation {
  std::string id;       // never used before, as of a UsageBatch
  std::string what;     // "register"
  std::string subject;  // "qwen:3"
  std::string request;  // how it was asked for: a sum of the request's body; may be empty
  std::string owner;    // one life of one process, as a lease's holder
};

/// How far an operation is.
struct OperationBeat {
  std::string id;
  std::uint32_t percent = 0;  // 0 to 100
};

/// What came of one.
struct OperationOutcome {
  std::string result;      // JSON, if it is done
  std::string error_code;  // empty: it is done; "not_found", ..
  std::string error;

  friend bool operator==(const OperationOutcome&, const OperationOutcome&) = default;
};

/// The error code of an operation whose owner fell silent.
inline constexpr char kInterrupted[] = "interrupted";

/// Work that takes longer than a request may wait: reading a file, walking the audit.
struct Operation {
  std::string id;
  std::string what;
  std::string subject;
  std::string owner;
  OperationState state = OperationState::kRunning;
  std::uint32_t percent = 0;
  OperationOutcome outcome;  // once it has ended; listings have no result
  std::int64_t started_unix_ms = 0;
  std::int64_t beat_unix_ms = 0;   // when its owner last said that it is at it
  std::int64_t ended_unix_ms = 0;  // 0: it has not

  friend bool operator==(const Operation&, const Operation&) = default;
};

/// Leadership: who holds `name` until when. The token rises whenever the holder changes, so what a
/// past holder still sends can be told from what the present one says.
struct Lease {
  std::string name;
  std::string holder;  // one life of one process: "scheduler-1/1750000000000"; empty: nobody
  std::uint64_t token = 0;
  std::int64_t expires_unix_ms = 0;

  friend bool operator==(const Lease&, const Lease&) = default;
};

/// What is kept for whoever holds a lease.
struct LeaseState {
  std::uint64_t revision = 0;  // rises with every put; 0: nothing is kept
  std::string data;            // any bytes, at most wire::kStateBytesMax

  friend bool operator==(const LeaseState&, const LeaseState&) = default;
};

}  // namespace conclave::catalog
