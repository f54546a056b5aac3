#include <boost/json.hpp>
#include <cstring>

#include "audit_chain.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/wire/limits.hpp"
#include "sql_catalog.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

#define CONCLAVE_AUDIT_COLUMNS \
  "sequence, at_unix_ms, actor, request_id, action, subject, before, after, hash"

// '' is every actor, action, .. $4 is how an action begins.
constexpr sql::Statement kAudit{
    "audit", "SELECT " CONCLAVE_AUDIT_COLUMNS
             " FROM audit WHERE sequence > $1 AND ($2 = '' OR actor = $2)"
             " AND ($3 = '' OR action = $3) AND ($4 = '' OR substr(action, 1, length($4)) = $4)"
             " AND ($5 = '' OR subject = $5) ORDER BY sequence LIMIT $6"};
constexpr sql::Statement kAuditPage{"audit_page",
                                    "SELECT " CONCLAVE_AUDIT_COLUMNS
                                    " FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2"};
constexpr sql::Statement kHead{"audit_head", "SELECT revision, hash FROM state WHERE id = 1"};

#undef CONCLAVE_AUDIT_COLUMNS

Result<AuditRecord> record_of(const sql::Row& row) {
  AuditRecord record{row.large(0), row.integer(1), row.text(2), row.text(3), row.text(4),
                     row.text(5),  row.text(6),    row.text(7), {}};
  CONCLAVE_TRY(record.hash, sum_of(row.blob(8)));
  return record;
}

// Follows the chain over one page of records, and from there to its head if the page is the last.
class Walk {
 public:
  // False: there is nothing more to read.
  Result<bool> page(sql::Session& session) {
    constexpr std::size_t kPage = 1000;
    CONCLAVE_TRY(const sql::Rows rows, session.run(kAuditPage, check_.records, kPage));
    for (const sql::Row& row : rows) {
      CONCLAVE_TRY(const AuditRecord record, record_of(row));
      if (record.sequence != check_.records + 1) return bad("is missing");
      ++check_.records;
      if (chained(last_, record) != record.hash) {
        --check_.records;
        return bad("was altered, or one before it");
      }
      last_ = record.hash;
    }
    if (rows.size() == kPage) return true;
    CONCLAVE_TRY(const sql::Rows head, session.run(kHead));
    if (head.empty()) return bad("is missing, and so is the state");
    CONCLAVE_TRY(const wire::Sha256 hash, sum_of(head.front().blob(1)));
    if (head.front().large(0) > check_.records) return bad("is missing");
    if (head.front().large(0) < check_.records || hash != last_) {
      check_.first_bad = check_.records;
      check_.problem = "the last record is not the one that was written last";
    }
    return false;
  }

  [[nodiscard]] const AuditCheck& check() const { return check_; }

 private:
  bool bad(const std::string& how) {
    check_.first_bad = check_.records + 1;
    check_.problem = "record " + std::to_string(check_.first_bad) + " " + how;
    return false;
  }

  AuditCheck check_;
  wire::Sha256 last_{};
};

}  // namespace

wire::Sha256 chained(const wire::Sha256& previous, const AuditRecord& record) {
  model::Sha256Hasher hasher;
  hasher.update(std::as_bytes(std::span(previous)));
  for (const std::string& field :
       {std::to_string(record.sequence), std::to_string(record.at_unix_ms), record.actor,
        record.request_id, record.action, record.subject, record.before, record.after}) {
    std::array<std::uint8_t, 8> length{};
    for (std::size_t i = 0; i < length.size(); ++i) {
      length[i] = static_cast<std::uint8_t>(field.size() >> (8 * i));
    }
    hasher.update(std::as_bytes(std::span(length)));
    hasher.update(std::as_bytes(std::span(field)));
  }
  return hasher.finish();
}

Result<wire::Sha256> sum_of(std::span<const std::byte> bytes) {
  wire::Sha256 sum{};
  if (bytes.size() != sum.size()) {
    return fail(ErrorCode::kCorruptData, "a sum in the catalog is none");
  }
  std::memcpy(sum.data(), bytes.data(), sum.size());
  return sum;
}

Result<AuditRecord> SqlCatalog::record_event(const AuditEvent& event, const Change& with) {
  CONCLAVE_TRY_VOID(check_text("action", event.action, kActorBytesMax));
  CONCLAVE_TRY_VOID(check_text("subject", event.subject, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("details", event.details, kJsonBytesMax));
  boost::json::error_code error;
  boost::json::parse(event.details, error);
  if (error && !event.details.empty()) {
    return fail(ErrorCode::kInvalidArgument, "details is no JSON");
  }
  return change(with, [&event](Writer& writer) {
    return writer.audit(event.action, event.subject, "", event.details);
  });
}

Result<AuditPage> SqlCatalog::audit(const AuditQuery& query) {
  CONCLAVE_TRY_VOID(check_limit(query.limit));
  for (const auto& [what, text] :
       {std::pair{"actor", &query.actor}, {"action", &query.action}, {"subject", &query.subject}}) {
    CONCLAVE_TRY_VOID(check_text(what, *text, kTextBytesMax));
  }
  const bool is_prefix = query.action.ends_with('*');
  const std::string action = is_prefix ? "" : query.action;
  const std::string prefix = is_prefix ? query.action.substr(0, query.action.size() - 1) : "";
  return read([&](sql::Session& session) -> Result<AuditPage> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(kAudit, query.after, query.actor, action, prefix,
                                                   query.subject, std::int64_t{query.limit} + 1));
    AuditPage page;
    for (const sql::Row& row : rows) {
      if (page.records.size() == query.limit) {
        page.more = true;
        break;
      }
      CONCLAVE_TRY(AuditRecord record, record_of(row));
      page.records.push_back(std::move(record));
    }
    return page;
  });
}

Result<AuditCheck> SqlCatalog::verify_audit(const std::function<bool(std::uint64_t)>& progress) {
  Walk walk;
  while (true) {
    Walk next;
    CONCLAVE_TRY(const bool more, read([&walk, &next](sql::Session& session) {
                   next = walk;  // a page may be read again
                   return next.page(session);
                 }));
    walk = next;
    if (!more) return walk.check();
    if (progress && !progress(walk.check().records)) {
      return fail(ErrorCode::kCancelled, "the check of the audit was ended");
    }
  }
}

}  // namespace conclave::catalog
