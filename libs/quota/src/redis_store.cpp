#include "redis_store.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "redis_scripts.hpp"

namespace conclave::quota {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

std::string counts_key(const std::string& tenant) { return "conclave:{" + tenant + "}:quota"; }
std::string open_key(const std::string& tenant) { return "conclave:{" + tenant + "}:open"; }

std::string text(std::uint64_t number) { return std::to_string(std::min(number, kTokensMax)); }

// Kept from what another one says: it may be wrong, but not so that sums of it overflow.
template <class Number>
bool read(std::int64_t from, Number& to) {
  constexpr auto kMost = static_cast<std::int64_t>(std::numeric_limits<Number>::max() >> 1);
  if (from < 0 || from > kMost) return false;
  to = static_cast<Number>(from);
  return true;
}

Result<Counts> counts_of(const RedisLink::Numbers& from) {
  Counts counts;
  const bool fits = from.size() == 10 && from[0] >= 0 && from[0] < kRefusals &&
                    read(from[1], counts.now_ms) && read(from[2], counts.window_ms) &&
                    read(from[3], counts.requests) && read(from[4], counts.tokens) &&
                    read(from[5], counts.day) && read(from[6], counts.day_tokens) &&
                    read(from[7], counts.month) && read(from[8], counts.month_tokens) &&
                    read(from[9], counts.open);
  if (!fits) return fail(ErrorCode::kCorruptData, "Redis answers what are no counts");
  counts.refusal = static_cast<Refusal>(from[0]);
  return counts;
}

}  // namespace

RedisStore::RedisStore(RedisOptions options)
    : lease_ms_(std::to_string(options.lease.count())), link_(std::move(options)) {}

void RedisStore::take(const Ask& ask, Then then) {
  link_.call({"EVAL", kTakeScript, "2", counts_key(ask.tenant), open_key(ask.tenant),
              text(ask.limits.requests_per_minute), text(ask.limits.tokens_per_minute),
              text(ask.limits.tokens_per_day), text(ask.limits.tokens_per_month),
              text(ask.limits.concurrent_requests), text(ask.tokens), ask.lease, lease_ms_,
              std::to_string(ask.reported.day), text(ask.reported.day_tokens),
              text(ask.reported.month_tokens)},
             [then = std::move(then)](const Result<RedisLink::Numbers>& reply) {
               if (reply) {
                 then(counts_of(*reply));
               } else {
                 then(fail(reply.error()));
               }
             });
}

void RedisStore::settle(const Settlement& settlement) { settle(settlement, nullptr); }

void RedisStore::settle(const Settlement& settlement, std::function<void()> lost) {
  link_.call(
      {"EVAL", kSettleScript, "2", counts_key(settlement.tenant), open_key(settlement.tenant),
       settlement.lease, std::to_string(settlement.window_ms), std::to_string(settlement.day),
       std::to_string(settlement.month), std::to_string(settlement.tokens)},
      [lost = std::move(lost)](const Result<RedisLink::Numbers>& reply) {
        if (!reply && reply.error().code == ErrorCode::kUnavailable && lost) lost();
      });
}

void RedisStore::renew(std::span<const Leases> leases) {
  for (const Leases& held : leases) {
    for (std::size_t first = 0; first < held.names.size(); first += kRenewedMax) {
      std::vector<std::string> command{"EVAL", kRenewScript, "1", open_key(held.tenant), lease_ms_};
      const std::size_t end = std::min(held.names.size(), first + kRenewedMax);
      for (std::size_t i = first; i < end; ++i) command.push_back(held.names[i]);
      link_.call(std::move(command), [](const Result<RedisLink::Numbers>&) {});  // there is a next
    }
  }
}

}  // namespace conclave::quota
