#include <array>
#include <map>
#include <tuple>

#include "conclave/base/text.hpp"
#include "sql_catalog.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr std::size_t kBatchIdBytesMax = 128;
// Old ids that one batch throws away: more than it adds, so they cannot pile up.
constexpr int kForgottenAtOnce = 16;

constexpr sql::Statement kAddBatch{
    "add_batch",
    "INSERT INTO usage_batch (id, added_unix_ms) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
    " RETURNING id"};
constexpr sql::Statement kForgetBatches{
    "forget_batches",
    "DELETE FROM usage_batch WHERE id IN (SELECT id FROM usage_batch WHERE added_unix_ms < $1"
    " ORDER BY added_unix_ms LIMIT $2)"};
constexpr sql::Statement kAddUsage{
    "add_usage",
    "INSERT INTO usage (tenant, key_id, model, day, requests, prompt_tokens, completion_tokens,"
    " expert_pairs, device_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    " ON CONFLICT (tenant, key_id, model, day) DO UPDATE SET"
    " requests = usage.requests + excluded.requests,"
    " prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,"
    " completion_tokens = usage.completion_tokens + excluded.completion_tokens,"
    " expert_pairs = usage.expert_pairs + excluded.expert_pairs,"
    " device_us = usage.device_us + excluded.device_us"};
constexpr sql::Statement kTenantOfKey{"tenant_of_key", "SELECT tenant FROM api_key WHERE id = $1"};

#define CONCLAVE_USAGE_SUMS                               \
  "CAST(coalesce(sum(requests), 0) AS BIGINT),"           \
  " CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT),"     \
  " CAST(coalesce(sum(completion_tokens), 0) AS BIGINT)," \
  " CAST(coalesce(sum(expert_pairs), 0) AS BIGINT),"      \
  " CAST(coalesce(sum(device_us), 0) AS BIGINT)"

// All take tenant, key, model, first and last day, and a limit; '' is the row of all of them. By
// model, key or tenant the one that is asked for is not looked at.
constexpr sql::Statement kUsageByDay{
    "usage_by_day",
    "SELECT '', day, requests, prompt_tokens, completion_tokens, expert_pairs, device_us"
    " FROM usage WHERE tenant = $1 AND key_id = $2 AND model = $3 AND day BETWEEN $4 AND $5"
    " ORDER BY day LIMIT $6"};
constexpr sql::Statement kUsageInTotal{
    "usage_in_total",
    "SELECT '', 0, " CONCLAVE_USAGE_SUMS
    " FROM usage WHERE tenant = $1 AND key_id = $2 AND model = $3 AND day BETWEEN $4 AND $5"
    " LIMIT $6"};
constexpr sql::Statement kUsageByModel{
    "usage_by_model",
    "SELECT model, 0, " CONCLAVE_USAGE_SUMS
    " FROM usage WHERE tenant = $1 AND key_id = $2 AND model <> '' AND day BETWEEN $3 AND $4"
    " GROUP BY model ORDER BY model LIMIT $5"};
constexpr sql::Statement kUsageByKey{
    "usage_by_key",
    "SELECT key_id, 0, " CONCLAVE_USAGE_SUMS
    " FROM usage WHERE tenant = $1 AND key_id <> '' AND model = $2 AND day BETWEEN $3 AND $4"
    " GROUP BY key_id ORDER BY key_id LIMIT $5"};
constexpr sql::Statement kUsageByTenant{
    "usage_by_tenant",
    "SELECT tenant, 0, " CONCLAVE_USAGE_SUMS
    " FROM usage WHERE tenant <> '' AND key_id = '' AND model = $1 AND day BETWEEN $2 AND $3"
    " GROUP BY tenant ORDER BY tenant LIMIT $4"};

#undef CONCLAVE_USAGE_SUMS

// Tenant, key, model, day. In this order the rows are changed, too: two batches that change the
// same ones do not wait for each other in a circle.
using Cell = std::tuple<std::string, std::string, std::string, std::int32_t>;

void add(UsageCounts& to, const UsageCounts& counts) {
  to.requests += counts.requests;
  to.prompt_tokens += counts.prompt_tokens;
  to.completion_tokens += counts.completion_tokens;
  to.expert_pairs += counts.expert_pairs;
  to.device_us += counts.device_us;
}

// Each row, and the rows of "all" that it belongs to. Keys belong to one tenant, so there are none
// of a key over all tenants.
std::map<Cell, UsageCounts> cells_of(std::span<const UsageRow> rows) {
  std::map<Cell, UsageCounts> cells;
  const auto named = [](const std::string& text) { return text.empty() ? "-" : text; };
  for (const UsageRow& row : rows) {
    const std::string tenant = named(row.tenant);
    const std::string key = named(row.key_id);
    const std::string model = named(row.model);
    for (const Cell& cell : {Cell{tenant, key, model, row.day}, Cell{tenant, key, "", row.day},
                             Cell{tenant, "", model, row.day}, Cell{tenant, "", "", row.day},
                             Cell{"", "", model, row.day}, Cell{"", "", "", row.day}}) {
      add(cells[cell], row.counts);
    }
  }
  return cells;
}

Status check_query(const UsageQuery& query) {
  for (const auto& [what, text] :
       {std::pair{"tenant", &query.tenant}, {"key", &query.key_id}, {"model", &query.model}}) {
    CONCLAVE_TRY_VOID(check_text(what, *text, kActorBytesMax));
  }
  const std::int64_t days = std::int64_t{query.last_day} - query.first_day + 1;
  if (days < 1 || days > static_cast<std::int64_t>(kUsageDaysMax)) {
    return fail(ErrorCode::kInvalidArgument,
                "usage is told of 1 to " + std::to_string(kUsageDaysMax) + " days");
  }
  if (query.by == UsageBy::kKey && query.tenant.empty()) {
    return fail(ErrorCode::kInvalidArgument, "usage by key is told of one tenant");
  }
  if (query.by == UsageBy::kTenant && !query.key_id.empty()) {
    return fail(ErrorCode::kInvalidArgument, "a key has one tenant");
  }
  return {};
}

Result<sql::Rows> ask(sql::Session& session, const UsageQuery& q, const std::string& tenant) {
  constexpr std::size_t kLimit = kUsageSumsMax + 1;
  switch (q.by) {
    case UsageBy::kTotal:
      return session.run(kUsageInTotal, tenant, q.key_id, q.model, q.first_day, q.last_day, kLimit);
    case UsageBy::kDay:
      return session.run(kUsageByDay, tenant, q.key_id, q.model, q.first_day, q.last_day, kLimit);
    case UsageBy::kModel:
      return session.run(kUsageByModel, tenant, q.key_id, q.first_day, q.last_day, kLimit);
    case UsageBy::kKey:
      return session.run(kUsageByKey, tenant, q.model, q.first_day, q.last_day, kLimit);
    case UsageBy::kTenant:
      return session.run(kUsageByTenant, q.model, q.first_day, q.last_day, kLimit);
  }
  return fail(ErrorCode::kInvalidArgument, "usage by what?");
}

}  // namespace

Result<bool> SqlCatalog::add_usage(const std::string& batch_id, std::span<const UsageRow> rows,
                                   std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_text("batch id", batch_id, kBatchIdBytesMax));
  if (batch_id.empty()) return fail(ErrorCode::kInvalidArgument, "a batch without an id");
  if (rows.size() > kUsageRowsMax) {
    return fail(ErrorCode::kInvalidArgument,
                "a batch has at most " + std::to_string(kUsageRowsMax) + " rows");
  }
  for (const UsageRow& row : rows) CONCLAVE_TRY_VOID(check_usage(row));
  const auto cells = cells_of(rows);
  return write(sql::Lock::kUsage, [&](sql::Session& session) -> Result<bool> {
    CONCLAVE_TRY(const sql::Rows added, session.run(kAddBatch, batch_id, now_unix_ms));
    if (added.empty()) return false;
    for (const auto& [cell, counts] : cells) {
      const auto& [tenant, key, model, day] = cell;
      CONCLAVE_TRY_VOID(session.apply(kAddUsage, tenant, key, model, day, counts.requests,
                                      counts.prompt_tokens, counts.completion_tokens,
                                      counts.expert_pairs, counts.device_us));
    }
    CONCLAVE_TRY_VOID(session.apply(kForgetBatches, now_unix_ms - kBatchKeptMs, kForgottenAtOnce));
    return true;
  });
}

Result<std::vector<UsageSum>> SqlCatalog::usage(const UsageQuery& query) {
  CONCLAVE_TRY_VOID(check_query(query));
  return read([&query](sql::Session& session) -> Result<std::vector<UsageSum>> {
    std::vector<UsageSum> sums;
    std::string tenant = query.tenant;
    if (tenant.empty() && !query.key_id.empty()) {
      CONCLAVE_TRY(const sql::Rows of, session.run(kTenantOfKey, query.key_id));
      if (of.empty()) return sums;  // nobody ever had it
      tenant = of.front().text(0);
    }
    CONCLAVE_TRY(const sql::Rows rows, ask(session, query, tenant));
    if (rows.size() > kUsageSumsMax) {
      return fail(
          ErrorCode::kOverloaded,
          "the answer has more than " + std::to_string(kUsageSumsMax) + " entries: ask for less");
    }
    for (const sql::Row& row : rows) {
      sums.push_back({row.text(0),
                      static_cast<std::int32_t>(row.integer(1)),
                      {row.large(2), row.large(3), row.large(4), row.large(5), row.large(6)}});
    }
    return sums;
  });
}

}  // namespace conclave::catalog
