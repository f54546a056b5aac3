// How much a tenant may use, and what was counted of it. A request takes its place before it is
// computed, with the tokens that it may need at most, and settles what it did need at its end.
//
// A minute is a window that begins with a tenant's first request and lasts 60 s; days and months
// are those of UTC. So a tenant may use two minutes' worth around the end of a window, never more.
#pragma once

#include <cstdint>
#include <string>

namespace conclave::quota {

inline constexpr std::int64_t kWindowMs = 60'000;
inline constexpr std::int64_t kDayMs = 86'400'000;
/// Longest request, and largest limit that is told from none: sums stay exact in a double, which is
/// all that Redis' scripts have.
inline constexpr std::uint64_t kTokensMax = std::uint64_t{1} << 52;

/// Of one tenant; 0: no limit. Tokens are those of prompts and answers together.
struct Limits {
  std::uint64_t requests_per_minute = 0;
  std::uint64_t tokens_per_minute = 0;
  std::uint64_t tokens_per_day = 0;
  std::uint64_t tokens_per_month = 0;
  std::uint32_t concurrent_requests = 0;

  friend bool operator==(const Limits&, const Limits&) = default;
};

/// What the registry has counted of a tenant: never more than was used, so it is a floor for
/// whoever forgot.
struct Reported {
  std::int32_t day = 0;  // since 1970-01-01, UTC
  std::uint64_t day_tokens = 0;
  std::uint64_t month_tokens = 0;  // of that day's month
};

/// A request that wants its place.
struct Ask {
  std::string tenant;
  std::string lease;  // names the request, differs from that of any other one of any gateway
  Limits limits;
  Reported reported;
  std::uint64_t tokens = 0;  // that it may need at most, about
};

/// Which limit a request would pass; the numbers are what Redis' script says.
enum class Refusal : std::uint8_t {
  kNone = 0,
  kRequestsPerMinute = 1,
  kTokensPerMinute = 2,
  kTokensPerDay = 3,
  kTokensPerMonth = 4,
  kConcurrentRequests = 5,
};
inline constexpr int kRefusals = 6;

/// The tenant's counts after a request was let in, or refused.
struct Counts {
  Refusal refusal = Refusal::kNone;
  std::int64_t now_ms = 0;     // since 1970, by the clock of whoever counts
  std::int64_t window_ms = 0;  // when the minute began, by the same clock
  std::uint64_t requests = 0;  // in it
  std::uint64_t tokens = 0;    // in it
  std::int32_t day = 0;        // since 1970-01-01, UTC
  std::uint64_t day_tokens = 0;
  std::int32_t month = 0;  // 12 * year + month - 1
  std::uint64_t month_tokens = 0;
  std::uint32_t open = 0;  // requests; only counted where they are limited
  bool alone = false;      // counted by this process though all are meant to count together

  friend bool operator==(const Counts&, const Counts&) = default;
};

/// The end of a request that was let in. Windows that are over by then are left as they were.
struct Settlement {
  std::string tenant;
  std::string lease;
  std::int64_t window_ms = 0;  // as it was let in, like the next two
  std::int32_t day = 0;
  std::int32_t month = 0;
  std::int64_t tokens = 0;  // used beyond what was asked for; mostly negative
  bool alone = false;       // as it was let in
  std::uint64_t used = 0;   // tokens in all
};

/// Of a day since 1970-01-01: 12 * year + month - 1.
std::int32_t month_of(std::int64_t day);

/// Milliseconds until what was refused may be taken; 1 s for a limit of open requests, which end
/// when they end; 0: it was not refused.
std::int64_t retry_after_ms(const Counts& counts);

}  // namespace conclave::quota
