#include "quota_book.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace conclave::quota {
namespace {

std::int64_t day_of(std::int64_t now_ms) { return now_ms / kDayMs - (now_ms % kDayMs < 0 ? 1 : 0); }

// Windows that are over begin anew.
void turn(Counts& counts, std::int64_t now_ms) {
  counts.now_ms = now_ms;
  const bool is_over = now_ms - counts.window_ms >= kWindowMs;
  if (is_over || now_ms < counts.window_ms) {  // a clock may be set back
    counts.window_ms = now_ms;
    counts.requests = counts.tokens = 0;
  }
  const std::int64_t today = day_of(now_ms);
  if (counts.day != today) counts.day_tokens = 0;
  counts.day = static_cast<std::int32_t>(today);
  const std::int32_t month = month_of(today);
  if (counts.month != month) counts.month_tokens = 0;
  counts.month = month;
}

void raise(Counts& counts, const Reported& reported) {
  if (reported.day == counts.day) {
    counts.day_tokens = std::max(counts.day_tokens, std::min(reported.day_tokens, kTokensMax));
  }
  if (month_of(reported.day) == counts.month) {
    counts.month_tokens =
        std::max(counts.month_tokens, std::min(reported.month_tokens, kTokensMax));
  }
}

// The limit that is against it for longest comes first.
Refusal refusal_of(const Limits& limits, const Counts& counts, std::uint64_t tokens) {
  const auto passes = [](std::uint64_t limit, std::uint64_t used, std::uint64_t more) {
    return limit != 0 && used + more > limit;
  };
  if (passes(limits.tokens_per_month, counts.month_tokens, tokens)) {
    return Refusal::kTokensPerMonth;
  }
  if (passes(limits.tokens_per_day, counts.day_tokens, tokens)) return Refusal::kTokensPerDay;
  if (passes(limits.requests_per_minute, counts.requests, 1)) return Refusal::kRequestsPerMinute;
  if (passes(limits.tokens_per_minute, counts.tokens, tokens)) return Refusal::kTokensPerMinute;
  if (passes(limits.concurrent_requests, counts.open, 1)) return Refusal::kConcurrentRequests;
  return Refusal::kNone;
}

void change(std::uint64_t& tokens, std::int64_t by) {
  const std::uint64_t size =
      by < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(by) : static_cast<std::uint64_t>(by);
  tokens = by < 0 ? tokens - std::min(tokens, size) : tokens + size;
}

}  // namespace

std::int32_t month_of(std::int64_t day) {
  // Days that no calendar has (the registry says them) are of no month.
  if (day < -700'000 || day > 10'000'000) return 0;
  const std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(day))};
  return static_cast<int>(date.year()) * 12 +
         static_cast<std::int32_t>(static_cast<unsigned>(date.month())) - 1;
}

std::int64_t retry_after_ms(const Counts& counts) {
  using std::chrono::days;
  switch (counts.refusal) {
    case Refusal::kNone:
      return 0;
    case Refusal::kRequestsPerMinute:
    case Refusal::kTokensPerMinute:
      return counts.window_ms + kWindowMs - counts.now_ms;
    case Refusal::kTokensPerDay:
      return (counts.day + std::int64_t{1}) * kDayMs - counts.now_ms;
    case Refusal::kTokensPerMonth: {
      const std::chrono::year year(counts.month / 12);
      const std::chrono::month month(static_cast<unsigned>(counts.month % 12 + 1));
      const std::chrono::sys_days next = (year / month + std::chrono::months(1)) / 1;
      return std::int64_t{next.time_since_epoch().count()} * kDayMs - counts.now_ms;
    }
    case Refusal::kConcurrentRequests:
      return 1000;
  }
  return 0;
}

QuotaBook::Tenant& QuotaBook::tenant(const std::string& name) {
  auto known = tenants_.find(name);
  if (known == tenants_.end()) {
    if (tenants_.size() >= kTenantsMax) {
      tenants_.erase(std::ranges::min_element(tenants_, {}, [](const auto& entry) {
        return std::pair(!entry.second.leases.empty(), entry.second.touched);
      }));
    }
    known = tenants_.try_emplace(name).first;
  }
  known->second.touched = ++calls_;
  return known->second;
}

Counts QuotaBook::take(const Ask& ask, std::int64_t now_ms) {
  Tenant& tenant = this->tenant(ask.tenant);
  Counts counts = tenant.counts;
  const std::uint64_t tokens = std::min(ask.tokens, kTokensMax);
  turn(counts, now_ms);
  raise(counts, ask.reported);
  counts.open = static_cast<std::uint32_t>(tenant.leases.size());
  counts.refusal = refusal_of(ask.limits, counts, tokens);
  if (counts.refusal != Refusal::kNone) return counts;  // and nothing has changed
  counts.requests += 1;
  counts.tokens += tokens;
  counts.day_tokens += tokens;
  counts.month_tokens += tokens;
  if (ask.limits.concurrent_requests != 0) {
    tenant.leases.insert(ask.lease);
    counts.open += 1;
  }
  tenant.counts = counts;
  return counts;
}

void QuotaBook::settle(const Settlement& settlement) {
  const auto known = tenants_.find(settlement.tenant);
  if (known == tenants_.end()) return;
  Counts& counts = known->second.counts;
  known->second.leases.erase(settlement.lease);
  if (counts.window_ms == settlement.window_ms) change(counts.tokens, settlement.tokens);
  if (counts.day == settlement.day) change(counts.day_tokens, settlement.tokens);
  if (counts.month == settlement.month) change(counts.month_tokens, settlement.tokens);
}

void QuotaBook::adopt(const Ask& ask, const Counts& counts) {
  Tenant& tenant = this->tenant(ask.tenant);
  tenant.counts = counts;
  if (counts.refusal == Refusal::kNone && ask.limits.concurrent_requests != 0) {
    tenant.leases.insert(ask.lease);
  }
}

std::vector<Leases> QuotaBook::leases() const {
  std::vector<Leases> all;
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.leases.empty()) continue;
    all.push_back({name, {tenant.leases.begin(), tenant.leases.end()}});
  }
  return all;
}

}  // namespace conclave::quota
