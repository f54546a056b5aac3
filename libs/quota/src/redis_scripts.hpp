// What Redis does for a request: one script each, so that no other request comes in between. The
// clock is Redis', the same for all gateways.
//
// Keys, both of one slot of a cluster: conclave:{TENANT}:quota, a hash of counts; and
// conclave:{TENANT}:open, a sorted set of open requests by when they are given up. Both expire.
#pragma once

#include <string>

namespace conclave::quota {

/// month_of() in Lua, before a script that calls it.
extern const std::string kMonthOf;

/// KEYS: quota, open. ARGV: the limits of requests and tokens a minute, tokens a day and a month,
/// open requests; tokens asked for; the request's name; milliseconds of its lease; what is
/// Reported: day, its tokens, its month's. Answers the fields of Counts in their order.
extern const std::string kTakeScript;

/// KEYS: quota, open. ARGV: the fields of Settlement from `lease` on. Answers 1.
extern const std::string kSettleScript;

/// KEYS: open. ARGV: milliseconds of the lease, names of requests. Answers 1.
extern const std::string kRenewScript;

}  // namespace conclave::quota
