@0xd973fa99be940a1d;
# What services ask of the registry while they work: whose key this is, what was used, who leads, and
# what is to be remembered.
#
# Who sends. Gateways send KeyQuestion and UsageBatch, schedulers LeaseRequest and StateRequest, both and workers
# AuditEvent, all to the registry's `ledger` actor; each struct says what answers it.
#
# Order. None between requests.
#
# Retries. Everything may be repeated. A UsageBatch must be, with the same id, until it was answered: that
# counts it once. LeaseRequest is idempotent. A StateRequest that puts and is repeated is refused by its revision if the first
# one arrived. An AuditEvent that is repeated is recorded again.
#
# Limits. Names: kNameBytesMax. Rows of a batch: kUsageRowsMax. Models of a key: kKeyModelsMax. Data of a state:
# kStateBytesMax.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

enum AccessRole {
  unset @0;      # nobody has it
  inference @1;  # asks models
  read @2;       # looks at everything, too
  admin @3;      # changes everything, too
}

struct Subject {
  # Whose key a client showed.

  tenant @0 :Text;
  keyId @1 :Text;
  role @2 :AccessRole;
}

struct KeyQuestion {
  # gateway -> registry, answered by KeyAnswer. The secret itself never leaves the gateway.

  secretSha256 @0 :Data;  # 32 bytes
}

struct TenantQuota {
  # What a tenant may use, 0: any amount of it; and what it has used by the registry's account, which is behind by what
  # gateways have not handed over.

  requestsPerMinute @0 :UInt64;
  tokensPerMinute @1 :UInt64;  # tokens are those of prompts and answers together, here and below
  tokensPerDay @2 :UInt64;     # a day of UTC
  tokensPerMonth @3 :UInt64;   # a calendar month of UTC
  concurrentRequests @4 :UInt32;
  day @5 :Int32;               # since 1970-01-01, UTC: of the two below
  dayTokens @6 :UInt64;        # used on that day; only said if there is a limit by day or month, as the next
  monthTokens @7 :UInt64;      # used in the month of that day
}

struct KeyAnswer {
  valid @0 :Bool;
  reason @1 :Text;   # why not: unknown, expired, revoked; cut like an error's message
  subject @2 :Subject;  # if valid, otherwise null
  models @3 :List(Text);    # that the key may ask; empty: all
  expiresUnixMs @4 :Int64;  # milliseconds since 1970, UTC; 0: never
  stale @5 :Bool;           # read from a snapshot, since the database is away
  quota @6 :TenantQuota;    # of the key's tenant; null: it has no limits
}

struct UsageRow {
  # What one key used of one model on one day.

  tenant @0 :Text;
  keyId @1 :Text;
  model @2 :Text;       # the name that was asked for; kReferenceBytesMax
  day @3 :Int32;        # since 1970-01-01, UTC
  requests @4 :UInt64;
  promptTokens @5 :UInt64;
  completionTokens @6 :UInt64;
  expertPairs @7 :UInt64;
  deviceUs @8 :UInt64;  # microseconds of devices
}

struct UsageBatch {
  # gateway -> registry, answered by Recorded.

  id @0 :Text;  # chosen by the gateway, never used for other rows
  rows @1 :List(UsageRow);
}

struct Recorded {
  # It is on disk.

  fresh @0 :Bool;  # false: it was there before
}

struct LeaseRequest {
  # scheduler -> registry, answered by LeaseReply. Takes the lease if it is free, renews it if it is the
  # holder's, and otherwise only asks.

  name @0 :Text;      # what is led: "scheduler"
  holder @1 :Text;    # one life of one process
  ttlMs @2 :UInt32;   # milliseconds; 0: releases it
}

struct LeaseReply {
  holder @0 :Text;   # who has it now; empty: nobody
  token @1 :UInt64;  # rises whenever the holder changes
  leftMs @2 :UInt32; # milliseconds until it lapses, when this was answered
}

struct AuditEvent {
  # Something that is to be remembered though it changes no record. Answered by Recorded.

  action @0 :Text;   # "expert.refused"
  subject @1 :Text;  # what it is about; kReferenceBytesMax
  details @2 :Text;  # JSON; kAdminTargetBytesMax
}

struct StateRequest {
  # scheduler -> registry, answered by StateReply. Reads what is kept for whoever holds a lease, or replaces it.

  name @0 :Text;      # of the lease, and so of the state
  token @1 :UInt64;   # of the lease as the sender holds it: a put with another one is failedPrecondition
  put :union {
    none @2 :Void;    # reads
    data @3 :Data;    # replaces it with this
  }
  revision @4 :UInt64;  # a put: of what it replaces, as it was read; 0: there is none yet
}

struct StateReply {
  revision @0 :UInt64;  # rises with every put; 0: nothing is kept
  data @1 :Data;        # of a put: empty
}
