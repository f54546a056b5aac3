#include "ledger.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "conclave/catalog/access.hpp"

namespace conclave::registry {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

wire::AccessRole role_of(catalog::Role role) {
  switch (role) {
    case catalog::Role::kInference:
      return wire::AccessRole::kInference;
    case catalog::Role::kRead:
      return wire::AccessRole::kRead;
    case catalog::Role::kAdmin:
      return wire::AccessRole::kAdmin;
  }
  return wire::AccessRole::kNone;
}

std::string text_of(const wire::Sha256& sum) {
  return {reinterpret_cast<const char*>(sum.data()), sum.size()};
}

}  // namespace

Ledger::Ledger(catalog::Catalog& catalog, WallClock wall_clock)
    : catalog_(catalog), wall_clock_(std::move(wall_clock)) {}

std::int64_t Ledger::now_unix_ms() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(wall_clock_().time_since_epoch())
      .count();
}

Result<wire::KeyAnswer> Ledger::key(const wire::KeyQuestion& question) {
  const std::string sum = text_of(question.secret_sha256);
  auto answer = look_up(question);
  if (answer) {
    // Secrets that nobody has are not kept: whoever guesses must not push out those that are used.
    if (answer->subject.key_id.empty()) {
      keys_.forget(sum);
    } else {
      keys_.keep(sum, *answer, sizeof(wire::KeyAnswer) + 512);
    }
    return answer;
  }
  if (answer.error().code != ErrorCode::kUnavailable) return answer;
  auto known = keys_.find(sum);
  if (!known) return answer;
  known->stale = true;
  if (known->expires_unix_ms != 0 && known->expires_unix_ms <= now_unix_ms()) {
    known->valid = false;
    known->reason = "the key has expired";
  }
  return *std::move(known);
}

Result<wire::KeyAnswer> Ledger::look_up(const wire::KeyQuestion& question) {
  wire::KeyAnswer answer;
  const auto key = catalog_.find_key_by_hash(question.secret_sha256);
  if (!key) {
    if (key.error().code != ErrorCode::kNotFound) return fail(key.error());
    answer.reason = "there is no such key";
    return answer;
  }
  answer.subject = {key->tenant, key->id, role_of(key->role)};
  answer.models = key->models;
  answer.expires_unix_ms = key->expires_unix_ms;
  const base::Status usable = catalog::usable(*key, now_unix_ms());
  answer.valid = usable.has_value();
  if (!usable) answer.reason = usable.error().message;
  CONCLAVE_TRY(answer.quota, quota_of(key->tenant));
  return answer;
}

Result<wire::TenantQuota> Ledger::quota_of(const std::string& tenant) {
  CONCLAVE_TRY(const catalog::Quota limits, catalog_.find_quota(tenant));
  wire::TenantQuota quota{.requests_per_minute = limits.requests_per_minute,
                          .tokens_per_minute = limits.tokens_per_minute,
                          .tokens_per_day = limits.tokens_per_day,
                          .tokens_per_month = limits.tokens_per_month,
                          .concurrent_requests = limits.concurrent_requests};
  if (quota.tokens_per_day == 0 && quota.tokens_per_month == 0) return quota;
  CONCLAVE_TRY(const Used used, used_by(tenant));
  quota.day = used.day;
  quota.day_tokens = used.day_tokens;
  quota.month_tokens = used.month_tokens;
  return quota;
}

Result<Ledger::Used> Ledger::used_by(const std::string& tenant) {
  const auto now = wall_clock_();
  const auto today = std::chrono::floor<std::chrono::days>(now);
  Used used{.at = now, .day = static_cast<std::int32_t>(today.time_since_epoch().count())};
  if (const auto known = used_.find(tenant); known != used_.end()) {
    const bool is_past = known->second.at <= now;  // a clock may be set back
    if (is_past && now - known->second.at < kUsedFresh && known->second.day == used.day) {
      return known->second;
    }
  }
  const std::chrono::year_month_day date(today);
  const std::chrono::sys_days first = date.year() / date.month() / 1;
  CONCLAVE_TRY(
      const auto days,
      catalog_.usage({.tenant = tenant,
                      .first_day = static_cast<std::int32_t>(first.time_since_epoch().count()),
                      .last_day = used.day,
                      .by = catalog::UsageBy::kDay}));
  for (const catalog::UsageSum& sum : days) {
    const std::uint64_t tokens = sum.counts.prompt_tokens + sum.counts.completion_tokens;
    used.month_tokens += tokens;
    if (sum.day == used.day) used.day_tokens += tokens;
  }
  if (used_.size() >= kUsedMax) used_.clear();
  used_[tenant] = used;
  return used;
}

Result<wire::Recorded> Ledger::usage(const wire::UsageBatch& batch) {
  std::vector<catalog::UsageRow> rows;
  rows.reserve(batch.rows.size());
  for (const wire::UsageRow& row : batch.rows) {
    rows.push_back({row.tenant,
                    row.key_id,
                    row.model,
                    row.day,
                    {row.requests, row.prompt_tokens, row.completion_tokens, row.expert_pairs,
                     row.device_us}});
  }
  CONCLAVE_TRY(const bool fresh, catalog_.add_usage(batch.id, rows, now_unix_ms()));
  return wire::Recorded{fresh};
}

Result<wire::LeaseReply> Ledger::lease(const wire::LeaseRequest& request) {
  const std::int64_t now = now_unix_ms();
  if (request.ttl_ms == 0) {
    CONCLAVE_TRY(catalog::Lease lease, catalog_.find_lease(request.name, now));
    if (lease.holder == request.holder) {
      CONCLAVE_TRY_VOID(catalog_.release_lease(lease));
      lease.holder.clear();
    }
    return wire::LeaseReply{lease.holder, lease.token, 0};
  }
  CONCLAVE_TRY(const catalog::Lease lease,
               catalog_.acquire_lease(request.name, request.holder, request.ttl_ms, now));
  // By the holder's own account of what it just got; for others as far as this host's clock can
  // say.
  const std::int64_t left = lease.holder == request.holder
                                ? std::int64_t{request.ttl_ms}
                                : std::max<std::int64_t>(lease.expires_unix_ms - now, 0);
  return wire::LeaseReply{lease.holder, lease.token, static_cast<std::uint32_t>(left)};
}

Result<wire::StateReply> Ledger::state(const wire::StateRequest& request) {
  if (request.put) {
    CONCLAVE_TRY(
        const std::uint64_t revision,
        catalog_.put_lease_state(request.name, request.token, request.revision, *request.put));
    return wire::StateReply{revision, {}};
  }
  CONCLAVE_TRY(catalog::LeaseState kept, catalog_.find_lease_state(request.name));
  return wire::StateReply{kept.revision, std::move(kept.data)};
}

// A clock that was set back gives nothing and takes nothing.
base::Status Ledger::take_budget(const std::string& node) {
  const auto now = wall_clock_();
  if (!budgets_.contains(node) && budgets_.size() >= kNodesMax) {
    budgets_.erase(
        std::ranges::min_element(budgets_, {}, [](const auto& b) { return b.second.at; }));
  }
  Budget& budget = budgets_.try_emplace(node, Budget{kEventsMax, now}).first->second;
  const std::chrono::duration<double> passed = std::max(now - budget.at, now - now);
  budget.events = std::min(kEventsMax, budget.events + passed / kEventEvery);
  budget.at = now;
  if (budget.events < 1) {
    return fail(ErrorCode::kOverloaded, "the node " + node + " has said too much");
  }
  budget.events -= 1;
  return {};
}

Result<wire::Recorded> Ledger::event(const wire::AuditEvent& event, const std::string& actor) {
  CONCLAVE_TRY_VOID(take_budget(actor));
  catalog::Change change;
  change.actor = "node:" + actor;
  change.now_unix_ms = now_unix_ms();
  CONCLAVE_TRY_VOID(catalog_.record_event({event.action, event.subject, event.details}, change));
  return wire::Recorded{true};
}

}  // namespace conclave::registry
