#include "sql_catalog.hpp"

#include <algorithm>

#include "audit_chain.hpp"
#include "conclave/catalog/open.hpp"
#include "postgres_driver.hpp"
#include "sqlite_driver.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr sql::Statement kReadState{"read_state", "SELECT revision, hash FROM state WHERE id = 1"};
constexpr sql::Statement kSetState{"set_state",
                                   "UPDATE state SET revision = $1, hash = $2 WHERE id = 1"};
constexpr sql::Statement kAddAudit{
    "add_audit",
    "INSERT INTO audit (sequence, at_unix_ms, actor, request_id, action, subject, before, after,"
    " hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"};
constexpr sql::Statement kAuditHash{"audit_hash", "SELECT hash FROM audit WHERE sequence = $1"};

}  // namespace

Result<Writer> Writer::begin(sql::Session& session, const Change& change) {
  Writer writer(session, change);
  CONCLAVE_TRY(const sql::Rows rows, session.run(kReadState));
  if (rows.empty()) return fail(ErrorCode::kCorruptData, "the catalog has lost its state");
  writer.first_ = writer.sequence_ = rows.front().large(0);
  CONCLAVE_TRY(writer.hash_, sum_of(rows.front().blob(1)));
  return writer;
}

Result<AuditRecord> Writer::audit(const std::string& action, const std::string& subject,
                                  std::string before, std::string after) {
  AuditRecord record;
  record.sequence = revision();
  record.at_unix_ms = change_.now_unix_ms;
  record.actor = change_.actor;
  record.request_id = change_.request_id;
  record.action = action;
  record.subject = subject;
  record.before = std::move(before);
  record.after = std::move(after);
  record.hash = chained(hash_, record);
  CONCLAVE_TRY_VOID(session_.apply(kAddAudit, record.sequence, record.at_unix_ms, record.actor,
                                   record.request_id, record.action, record.subject, record.before,
                                   record.after, std::as_bytes(std::span(record.hash))));
  sequence_ = record.sequence;
  hash_ = record.hash;
  return record;
}

Status Writer::check_revision(std::string_view what, std::uint64_t revision) const {
  if (!change_.if_revision || *change_.if_revision == revision) return {};
  const auto shown = [](std::uint64_t number) {
    return number == 0 ? std::string("absent") : "at revision " + std::to_string(number);
  };
  return fail(conflict(what, shown(revision), shown(*change_.if_revision)));
}

Status Writer::finish() {
  if (sequence_ == first_) return {};
  return session_.apply(kSetState, sequence_, std::as_bytes(std::span(hash_)));
}

Result<bool> SqlCatalog::was_done(const Writer::Witness& witness) {
  if (witness.sequence == 0) return true;  // there was nothing to do
  return read([&witness](sql::Session& session) -> Result<bool> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(kAuditHash, witness.sequence));
    const auto hash = std::as_bytes(std::span(witness.hash));
    return !rows.empty() && std::ranges::equal(rows.front().blob(0), hash);
  });
}

Result<std::uint64_t> SqlCatalog::revision() {
  return read([](sql::Session& session) -> Result<std::uint64_t> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(sql::kReadRevision));
    if (rows.empty()) return fail(ErrorCode::kCorruptData, "the catalog has lost its state");
    return rows.front().large(0);
  });
}

Result<std::unique_ptr<Watch>> SqlCatalog::watch(
    std::function<void(std::uint64_t revision)> changed) {
  return driver_->watch(std::move(changed));
}

Status SqlCatalog::ping() {
  const auto answered = revision();
  if (!answered) return fail(answered.error());
  return {};
}

bool is_postgres_url(std::string_view url) {
  return url.starts_with("postgres://") || url.starts_with("postgresql://");
}

std::string redacted(std::string_view url) {
  if (!is_postgres_url(url)) return std::string(url);
  std::string text(url);
  const std::size_t start = text.find("://") + 3;
  const std::size_t end = std::min(text.find_first_of("/?", start), text.size());
  const std::size_t at = text.rfind('@', end);
  const std::size_t colon = text.find(':', start);
  if (at != std::string::npos && at > start && at < end && colon < at) {
    text.replace(colon + 1, at - colon - 1, "***");
  }
  const std::size_t parameter = text.find("password=");
  if (parameter != std::string::npos) {
    const std::size_t value = parameter + std::string_view("password=").size();
    text.replace(value, std::min(text.find('&', value), text.size()) - value, "***");
  }
  return text;
}

Result<std::unique_ptr<Catalog>> open_catalog(const std::string& url,
                                              const CatalogOptions& options) {
  CONCLAVE_TRY(auto driver,
               is_postgres_url(url) ? open_postgres(url, options) : open_sqlite(url, options));
  return std::unique_ptr<Catalog>(std::make_unique<SqlCatalog>(std::move(driver)));
}

}  // namespace conclave::catalog
