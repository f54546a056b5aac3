// The catalog over a database: what it means and its SQL, once for both drivers. Each facet of the
// interface has a file of its own (sql_models.cpp, sql_versions.cpp, ..).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "conclave/catalog/catalog.hpp"
#include "fields.hpp"
#include "sql.hpp"

namespace conclave::catalog {

/// A change in progress: the records that it writes get its revision, and the audit hears of each.
class Writer {
 public:
  /// Reads how far the catalog is.
  static base::Result<Writer> begin(sql::Session& session, const Change& change);

  [[nodiscard]] sql::Session& sql() const { return session_; }
  [[nodiscard]] std::int64_t now_unix_ms() const { return change_.now_unix_ms; }
  /// The number of the change that comes next: what it writes has it as its revision.
  [[nodiscard]] std::uint64_t revision() const { return sequence_ + 1; }
  /// The record of that change; the next one has the next number.
  base::Result<AuditRecord> audit(const std::string& action, const std::string& subject,
                                  std::string before, std::string after);
  /// A conflict if the record is not at the revision that the Change wants; 0: there is no record.
  [[nodiscard]] base::Status check_revision(std::string_view what, std::uint64_t revision) const;
  /// Keeps how far it went.
  base::Status finish();

  /// The last audit record written; 0: none was.
  struct Witness {
    std::uint64_t sequence = 0;
    wire::Sha256 hash{};
  };
  [[nodiscard]] Witness witness() const { return {sequence_ == first_ ? 0 : sequence_, hash_}; }

 private:
  Writer(sql::Session& session, const Change& change) : session_(session), change_(change) {}

  sql::Session& session_;
  const Change& change_;
  std::uint64_t first_ = 0;
  std::uint64_t sequence_ = 0;
  wire::Sha256 hash_{};
};

class SqlCatalog final : public Catalog {
 public:
  explicit SqlCatalog(std::unique_ptr<sql::Driver> driver) : driver_(std::move(driver)) {}

  base::Result<Version> add_version(const ModelScan& scan, const NewVersion& version,
                                    const Change& change) override;
  base::Result<wire::ModelRecord> resolve(std::string_view reference) override;
  base::Result<wire::ModelList> list(const wire::ListModels& page) override;
  base::Result<wire::ModelDigests> digests(const wire::DigestsRequest& request) override;
  base::Result<Model> create_model(const std::string& name, const ModelEdit& texts,
                                   const Change& change) override;
  base::Result<Model> find_model(const std::string& name) override;
  base::Result<ModelPage> list_models(const std::string& after, std::uint32_t limit) override;
  base::Result<Model> edit_model(const std::string& name, const ModelEdit& edit,
                                 const Change& change) override;
  base::Status remove_model(const std::string& name, const Change& change) override;
  base::Result<Version> find_version(const std::string& name, std::uint32_t version) override;
  base::Result<VersionPage> list_versions(const std::string& name, std::uint32_t before,
                                          std::uint32_t limit) override;
  base::Result<Version> edit_draft(const std::string& name, std::uint32_t version,
                                   const VersionNotes& notes, const Change& change) override;
  base::Result<Version> publish(const std::string& name, std::uint32_t version,
                                const Change& change) override;
  base::Result<Version> archive(const std::string& name, std::uint32_t version,
                                const Change& change) override;
  base::Status remove_version(const std::string& name, std::uint32_t version,
                              const Change& change) override;
  base::Result<Alias> move_alias(const AliasMove& move, const Change& change) override;
  base::Result<Alias> find_alias(const std::string& model, const std::string& alias) override;
  base::Result<std::vector<Alias>> list_aliases(const std::string& model) override;
  base::Status remove_alias(const std::string& model, const std::string& alias,
                            const Change& change) override;

  base::Result<Deployment> put_deployment(const Deployment& deployment,
                                          const Change& change) override;
  base::Result<Deployment> find_deployment(const std::string& name) override;
  base::Result<std::vector<Deployment>> list_deployments() override;
  base::Status remove_deployment(const std::string& name, const Change& change) override;

  base::Result<Tenant> create_tenant(const std::string& name, const std::string& description,
                                     const Change& change) override;
  base::Result<Tenant> find_tenant(const std::string& name) override;
  base::Result<std::vector<Tenant>> list_tenants(const std::string& after,
                                                 std::uint32_t limit) override;
  base::Result<ApiKey> create_key(const NewApiKey& key, std::string_view secret,
                                  const Change& change) override;
  base::Result<ApiKey> ensure_key(const NewApiKey& key, std::string_view secret,
                                  const Change& change) override;
  base::Result<ApiKey> find_key(const std::string& id) override;
  base::Result<ApiKey> find_key_by_hash(const wire::Sha256& secret_hash) override;
  base::Result<std::vector<ApiKey>> list_keys(const std::string& tenant, const std::string& after,
                                              std::uint32_t limit) override;
  base::Result<ApiKey> revoke_key(const std::string& id, const Change& change) override;
  base::Result<Quota> find_quota(const std::string& tenant) override;
  base::Result<Quota> put_quota(const Quota& quota, const Change& change) override;

  base::Result<bool> add_usage(const std::string& batch_id, std::span<const UsageRow> rows,
                               std::int64_t now_unix_ms) override;
  base::Result<std::vector<UsageSum>> usage(const UsageQuery& query) override;

  base::Result<AuditRecord> record_event(const AuditEvent& event, const Change& change) override;
  base::Result<AuditPage> audit(const AuditQuery& query) override;
  base::Result<AuditCheck> verify_audit(
      const std::function<bool(std::uint64_t)>& progress) override;

  base::Result<Lease> acquire_lease(const std::string& name, const std::string& holder,
                                    std::int64_t ttl_ms, std::int64_t now_unix_ms) override;
  base::Result<Lease> renew_lease(const Lease& lease, std::int64_t ttl_ms,
                                  std::int64_t now_unix_ms) override;
  base::Status release_lease(const Lease& lease) override;
  base::Result<Lease> find_lease(const std::string& name, std::int64_t now_unix_ms) override;
  base::Result<LeaseState> find_lease_state(const std::string& name) override;
  base::Result<std::uint64_t> put_lease_state(const std::string& name, std::uint64_t token,
                                              std::uint64_t revision,
                                              std::string_view data) override;

  base::Result<Operation> begin_operation(const NewOperation& operation,
                                          std::int64_t now_unix_ms) override;
  base::Status interrupt_former(const std::string& owner, std::int64_t now_unix_ms) override;
  base::Status beat_operations(const std::string& owner, std::span<const OperationBeat> beats,
                               std::int64_t now_unix_ms) override;
  base::Result<Operation> end_operation(const std::string& id, const std::string& owner,
                                        const OperationOutcome& outcome,
                                        std::int64_t now_unix_ms) override;
  base::Result<Operation> find_operation(const std::string& id, std::int64_t now_unix_ms) override;
  base::Result<std::vector<Operation>> list_operations(std::uint32_t limit,
                                                       std::int64_t now_unix_ms) override;

  base::Result<std::uint64_t> revision() override;
  base::Result<std::unique_ptr<Watch>> watch(
      std::function<void(std::uint64_t revision)> changed) override;
  base::Status ping() override;

 private:
  // How often a change is begun anew whose commit got lost and, as it turned out, was not done.
  static constexpr int kDoubtsMax = 3;

  // Body: (sql::Session&) -> base::Result<T>.
  template <class Body>
  std::invoke_result_t<Body&, sql::Session&> read(Body body) {
    std::invoke_result_t<Body&, sql::Session&> result = not_run();
    const base::Status done = driver_->read([&](sql::Session& session) -> base::Result<sql::End> {
      result = body(session);
      if (!result) return base::fail(result.error());
      return sql::End::kCommit;
    });
    if (!done) return base::fail(done.error());
    return result;
  }

  // As read(), for what is idempotent and not audited.
  template <class Body>
  std::invoke_result_t<Body&, sql::Session&> write(sql::Lock lock, Body body) {
    std::invoke_result_t<Body&, sql::Session&> result = not_run();
    for (int doubts = 0;; ++doubts) {
      const sql::Outcome outcome =
          driver_->write(lock, [&](sql::Session& session) -> base::Result<sql::End> {
            result = body(session);
            if (!result) return base::fail(result.error());
            return sql::End::kCommit;
          });
      if (outcome.status) return result;
      if (!outcome.in_doubt || doubts >= kDoubtsMax) return base::fail(outcome.status.error());
    }
  }

  // Body: (Writer&) -> base::Result<T>. Done once, also where a commit's answer got lost: its audit
  // record is there then, with its sum.
  template <class Body>
  std::invoke_result_t<Body&, Writer&> change(const Change& change, Body body) {
    CONCLAVE_TRY_VOID(check_change(change));
    std::invoke_result_t<Body&, Writer&> result = not_run();
    for (int doubts = 0;; ++doubts) {
      Writer::Witness witness;
      const sql::Outcome outcome =
          driver_->write(sql::Lock::kCatalog, [&](sql::Session& session) -> base::Result<sql::End> {
            CONCLAVE_TRY(Writer writer, Writer::begin(session, change));
            result = body(writer);
            if (!result) return base::fail(result.error());
            if (change.dry_run) return sql::End::kRollBack;
            CONCLAVE_TRY_VOID(writer.finish());
            witness = writer.witness();
            return sql::End::kCommit;
          });
      if (outcome.status) return result;
      if (!outcome.in_doubt || doubts >= kDoubtsMax) return base::fail(outcome.status.error());
      CONCLAVE_TRY(const bool done, was_done(witness));
      if (done) return result;
    }
  }

  static tl::unexpected<base::Error> not_run() {
    return base::fail(base::ErrorCode::kInternal, "the transaction was not run");
  }
  base::Result<bool> was_done(const Writer::Witness& witness);

  std::unique_ptr<sql::Driver> driver_;
};

}  // namespace conclave::catalog
