// What services ask of the registry while they work: keys, usage, leases, events. Rules:
// schemas/ledger.capnp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conclave/wire/common.hpp"

namespace conclave::wire {

/// Each may do what those before it may.
enum class AccessRole : std::uint8_t { kNone = 0, kInference = 1, kRead = 2, kAdmin = 3 };

/// Whose key a client showed.
struct Subject {
  std::string tenant;
  std::string key_id;
  AccessRole role = AccessRole::kNone;

  friend bool operator==(const Subject&, const Subject&) = default;
};

/// Answered by KeyAnswer.
struct KeyQuestion {
  Sha256 secret_sha256{};

  friend bool operator==(const KeyQuestion&, const KeyQuestion&) = default;
};

/// What a tenant may use (0: any amount of it), and what it has used by the registry's account,
/// which is behind by what gateways have not handed over.
struct TenantQuota {
  std::uint64_t requests_per_minute = 0;
  std::uint64_t tokens_per_minute = 0;  // of prompts and answers together, as all tokens here
  std::uint64_t tokens_per_day = 0;     // a day of UTC
  std::uint64_t tokens_per_month = 0;   // a calendar month of UTC
  std::uint32_t concurrent_requests = 0;
  std::int32_t day = 0;            // since 1970-01-01, UTC: of the two below
  std::uint64_t day_tokens = 0;    // used on that day; said if there is a limit by day or month
  std::uint64_t month_tokens = 0;  // used in the month of that day; likewise

  friend bool operator==(const TenantQuota&, const TenantQuota&) = default;
};

struct KeyAnswer {
  bool valid = false;
  std::string reason;                // why not, for people
  Subject subject;                   // if valid
  std::vector<std::string> models;   // that the key may ask; empty: all
  std::int64_t expires_unix_ms = 0;  // 0: never
  bool stale = false;                // from a snapshot: the database is away
  TenantQuota quota;                 // of the key's tenant

  friend bool operator==(const KeyAnswer&, const KeyAnswer&) = default;
};

/// What one key used of one model on one day.
struct UsageRow {
  std::string tenant;
  std::string key_id;
  std::string model;
  std::int32_t day = 0;  // since 1970-01-01, UTC
  std::uint64_t requests = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t expert_pairs = 0;
  std::uint64_t device_us = 0;

  friend bool operator==(const UsageRow&, const UsageRow&) = default;
};

/// Answered by Recorded; counts once, however often it is sent.
struct UsageBatch {
  std::string id;
  std::vector<UsageRow> rows;

  friend bool operator==(const UsageBatch&, const UsageBatch&) = default;
};

struct Recorded {
  bool fresh = false;  // false: it was there before

  friend bool operator==(const Recorded&, const Recorded&) = default;
};

/// Answered by LeaseReply.
struct LeaseRequest {
  std::string name;
  std::string holder;        // one life of one process
  std::uint32_t ttl_ms = 0;  // 0: releases it

  friend bool operator==(const LeaseRequest&, const LeaseRequest&) = default;
};

struct LeaseReply {
  std::string holder;       // who has it now; empty: nobody
  std::uint64_t token = 0;  // rises whenever the holder changes
  std::uint32_t left_ms = 0;

  friend bool operator==(const LeaseReply&, const LeaseReply&) = default;
};

/// Answered by Recorded.
struct AuditEvent {
  std::string action;
  std::string subject;
  std::string details;  // JSON

  friend bool operator==(const AuditEvent&, const AuditEvent&) = default;
};

/// Answered by StateReply. Reads what is kept for whoever holds a lease, or replaces it.
struct StateRequest {
  std::string name;                // of the lease, and so of the state
  std::uint64_t token = 0;         // of the lease; a put with another one is kFailedPrecondition
  std::optional<std::string> put;  // any bytes, at most kStateBytesMax
  std::uint64_t revision = 0;      // a put: of what it replaces; 0: there is none yet

  friend bool operator==(const StateRequest&, const StateRequest&) = default;
};

struct StateReply {
  std::uint64_t revision = 0;  // rises with every put; 0: nothing is kept
  std::string data;            // of a put: empty

  friend bool operator==(const StateReply&, const StateReply&) = default;
};

}  // namespace conclave::wire
