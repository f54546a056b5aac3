// The one source of truth: models, deployments, who may use them, what was used, who changed what,
// and who leads. This is the interface of a store, whichever database stands behind it (open.hpp).
//
// Any thread may call; calls may wait for a disk or a network, so actors that call are detached.
// What a changing call acknowledged is on disk, with its audit record, or nothing of it is. Every
// call can also fail with kUnavailable (the store cannot be reached or written; later may work),
// kOverloaded (all connections were busy for the time of a wait, or a bound of records.hpp),
// kCorruptData, and kInvalidArgument (names the field: too long, not UTF-8, out of range); every
// changing call, where the Change sets a condition that does not hold, with a conflict.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/catalog/records.hpp"
#include "conclave/catalog/scan.hpp"
#include "conclave/wire/registry.hpp"

namespace conclave::catalog {

/// True for the kFailedPrecondition that a Change's condition (or AliasMove::if_version) gives:
/// somebody else was faster. HTTP says 412 to it, and 409 to other failed preconditions.
bool is_conflict(const base::Error& error);

/// What is to be recorded of a scanned file.
struct NewVersion {
  std::string uri;
  std::vector<std::string> aliases;  // to point at it; not with a draft
  bool draft = false;
  VersionNotes notes;
};

struct AliasMove {
  std::string model;
  std::string alias;
  std::uint32_t version = 0;
  std::optional<std::uint32_t> if_version;  // must point there now; 0: must not exist
};

/// Models, versions and aliases. A version's number means the same bytes for ever, also after it,
/// or its model, was removed: numbers are not used again.
class Models {
 public:
  /// Records a scanned file as the next version of its name (which is made if need be), or finds
  /// the version that has the same bytes already and notes the new URI; a draft found so is
  /// published unless a draft was asked for. Then points the aliases at it. All of it or nothing.
  virtual base::Result<Version> add_version(const ModelScan& scan, const NewVersion& version,
                                            const Change& change) = 0;

  /// What a reference means now: a published version, or an archived one if its number was named.
  /// kInvalidArgument: none of the three forms; kNotFound; kFailedPrecondition: a draft.
  virtual base::Result<wire::ModelRecord> resolve(std::string_view reference) = 0;
  /// All published versions, by name and falling version. kInvalidArgument: `after` is no
  /// "name:version" (it need not exist), or a limit of 0 or above wire::kListMax.
  virtual base::Result<wire::ModelList> list(const wire::ListModels& page) = 0;
  /// The sums of a version in whatever state. kNotFound.
  virtual base::Result<wire::ModelDigests> digests(const wire::DigestsRequest& request) = 0;

  /// Makes a model that has no versions yet. kFailedPrecondition: there is one.
  virtual base::Result<Model> create_model(const std::string& name, const ModelEdit& texts,
                                           const Change& change) = 0;
  virtual base::Result<Model> find_model(const std::string& name) = 0;
  /// By name.
  virtual base::Result<ModelPage> list_models(const std::string& after, std::uint32_t limit) = 0;
  virtual base::Result<Model> edit_model(const std::string& name, const ModelEdit& edit,
                                         const Change& change) = 0;
  /// With its drafts and archived versions. kFailedPrecondition: a published version, an alias or a
  /// deployment is left (the message names it).
  virtual base::Status remove_model(const std::string& name, const Change& change) = 0;

  virtual base::Result<Version> find_version(const std::string& name, std::uint32_t version) = 0;
  /// Of one model, in every state, by falling number below `before` (0: from the newest).
  /// kNotFound.
  virtual base::Result<VersionPage> list_versions(const std::string& name, std::uint32_t before,
                                                  std::uint32_t limit) = 0;
  /// kFailedPrecondition: published or archived.
  virtual base::Result<Version> edit_draft(const std::string& name, std::uint32_t version,
                                           const VersionNotes& notes, const Change& change) = 0;
  /// A draft, or an archived version back; one that is published is answered as it is.
  virtual base::Result<Version> publish(const std::string& name, std::uint32_t version,
                                        const Change& change) = 0;
  /// kFailedPrecondition: a draft, or an alias or a deployment names it.
  virtual base::Result<Version> archive(const std::string& name, std::uint32_t version,
                                        const Change& change) = 0;
  /// A draft or an archived version, with its sums; its number is not used again.
  virtual base::Status remove_version(const std::string& name, std::uint32_t version,
                                      const Change& change) = 0;

  /// Moves or makes an alias, in one step. kNotFound: no such version; kFailedPrecondition: a
  /// draft or an archived one; a conflict.
  virtual base::Result<Alias> move_alias(const AliasMove& move, const Change& change) = 0;
  virtual base::Result<Alias> find_alias(const std::string& model, const std::string& alias) = 0;
  /// By name, all of a model.
  virtual base::Result<std::vector<Alias>> list_aliases(const std::string& model) = 0;
  /// kFailedPrecondition: a deployment names it.
  virtual base::Status remove_alias(const std::string& model, const std::string& alias,
                                    const Change& change) = 0;

 protected:
  ~Models() = default;
};

class Deployments {
 public:
  /// Makes or replaces. Every reference in it must resolve now. kNotFound: one does not.
  virtual base::Result<Deployment> put_deployment(const Deployment& deployment,
                                                  const Change& change) = 0;
  virtual base::Result<Deployment> find_deployment(const std::string& name) = 0;
  /// All, by name.
  virtual base::Result<std::vector<Deployment>> list_deployments() = 0;
  virtual base::Status remove_deployment(const std::string& name, const Change& change) = 0;

 protected:
  ~Deployments() = default;
};

/// Tenants, their keys and their quotas. Secrets come in as sums only (access.hpp).
class Access {
 public:
  /// kFailedPrecondition: there is one.
  virtual base::Result<Tenant> create_tenant(const std::string& name,
                                             const std::string& description,
                                             const Change& change) = 0;
  virtual base::Result<Tenant> find_tenant(const std::string& name) = 0;
  /// By name, after `after`.
  virtual base::Result<std::vector<Tenant>> list_tenants(const std::string& after,
                                                         std::uint32_t limit) = 0;

  /// Records a key by its secret. kNotFound: no such tenant; kFailedPrecondition: the secret is
  /// that of another key.
  virtual base::Result<ApiKey> create_key(const NewApiKey& key, std::string_view secret,
                                          const Change& change) = 0;
  /// Makes sure that the secret is a key of this role in this tenant, which is made if need be.
  /// Writes nothing if it is so. kFailedPrecondition: it was revoked, or is something else.
  virtual base::Result<ApiKey> ensure_key(const NewApiKey& key, std::string_view secret,
                                          const Change& change) = 0;
  virtual base::Result<ApiKey> find_key(const std::string& id) = 0;
  /// By the sum of a secret, whatever its state: see usable(). kNotFound.
  virtual base::Result<ApiKey> find_key_by_hash(const wire::Sha256& secret_hash) = 0;
  /// By id, after `after`; `tenant` empty: of all.
  virtual base::Result<std::vector<ApiKey>> list_keys(const std::string& tenant,
                                                      const std::string& after,
                                                      std::uint32_t limit) = 0;
  /// For good; again: as it is.
  virtual base::Result<ApiKey> revoke_key(const std::string& id, const Change& change) = 0;

  /// A tenant without one has no limits. kNotFound: no such tenant.
  virtual base::Result<Quota> find_quota(const std::string& tenant) = 0;
  virtual base::Result<Quota> put_quota(const Quota& quota, const Change& change) = 0;

 protected:
  ~Access() = default;
};

class Usage {
 public:
  /// Batch ids are remembered for so long; a batch must not be sent again after it.
  static constexpr std::int64_t kBatchKeptMs = std::int64_t{30} * 24 * 3600 * 1000;

  /// Adds a batch once, however often it is sent: false means that it was added before (and that
  /// these rows were not looked at). Neither audited nor a change of the revision.
  virtual base::Result<bool> add_usage(const std::string& batch_id, std::span<const UsageRow> rows,
                                       std::int64_t now_unix_ms) = 0;
  /// By rising day or group. Days and groups without usage are left out.
  virtual base::Result<std::vector<UsageSum>> usage(const UsageQuery& query) = 0;

 protected:
  ~Usage() = default;
};

/// Every change and event, append-only (the database itself refuses to change or delete one) and
/// chained, so that a record that is altered or missing is found.
class Audit {
 public:
  /// Records an event; its sequence is a revision, too.
  virtual base::Result<AuditRecord> record_event(const AuditEvent& event, const Change& change) = 0;
  virtual base::Result<AuditPage> audit(const AuditQuery& query) = 0;
  /// Reads all of the chain, a page at a time; `progress` hears how many records were read, and
  /// ends the walk with kCancelled if it says false.
  virtual base::Result<AuditCheck> verify_audit(
      const std::function<bool(std::uint64_t)>& progress) = 0;

 protected:
  ~Audit() = default;
};

/// Leases are judged by the clock of the database server where there is one (so registries on
/// different hosts need not agree on the time), and by `now_unix_ms` otherwise. Neither audited nor
/// a change of the revision: a lease is renewed every second.
class Leases {
 public:
  /// The lease as it is after the call: granted if its holder is `holder`. By its holder it is
  /// renewed, with the same token; free or lapsed it is taken, with the next token. `ttl_ms`: 1 to
  /// 3,600,000.
  virtual base::Result<Lease> acquire_lease(const std::string& name, const std::string& holder,
                                            std::int64_t ttl_ms, std::int64_t now_unix_ms) = 0;
  /// kFailedPrecondition: it lapsed, or another has it. Acquire it anew, with another token.
  virtual base::Result<Lease> renew_lease(const Lease& lease, std::int64_t ttl_ms,
                                          std::int64_t now_unix_ms) = 0;
  /// Frees it for others at once; nothing happens if it is not (any more) this one.
  virtual base::Status release_lease(const Lease& lease) = 0;
  /// kNotFound: nobody ever had it. Its holder is empty once it lapsed or was released.
  virtual base::Result<Lease> find_lease(const std::string& name, std::int64_t now_unix_ms) = 0;

  /// What is kept for the lease of this name, whoever asks.
  virtual base::Result<LeaseState> find_lease_state(const std::string& name) = 0;
  /// Replaces what is kept, and returns its new revision. kFailedPrecondition: the token is not
  /// that of the lease (any more), or `revision` is not that of what is kept: a holder of the past
  /// changes nothing.
  virtual base::Result<std::uint64_t> put_lease_state(const std::string& name, std::uint64_t token,
                                                      std::uint64_t revision,
                                                      std::string_view data) = 0;

 protected:
  ~Leases() = default;
};

/// Work in progress, so that every registry knows of it and it outlives the one that does it. Clock
/// and audit as for Leases: what an operation changes is audited where it changes it.
class Operations {
 public:
  /// An operation whose owner is silent for so long has failed as kInterrupted. Owners beat every
  /// second; a database that is away for as long as that looks the same, and passes: see
  /// end_operation().
  static constexpr std::int64_t kSilenceMs = 5'000;

  /// Records it as running. If the same (what, subject, request) is running already, that one is
  /// returned, with another id, and the caller has nothing to do. kOverloaded.
  virtual base::Result<Operation> begin_operation(const NewOperation& operation,
                                                  std::int64_t now_unix_ms) = 0;
  /// Marks what former lives of the owner's node left running as interrupted: `owner` is the node's
  /// name, '/' and what tells its lives apart.
  virtual base::Status interrupt_former(const std::string& owner, std::int64_t now_unix_ms) = 0;
  /// The owner is at all of these. Those of others that are silent are marked as interrupted.
  virtual base::Status beat_operations(const std::string& owner,
                                       std::span<const OperationBeat> beats,
                                       std::int64_t now_unix_ms) = 0;
  /// By its owner, also where it was held to be interrupted meanwhile: the work was done. Again: as
  /// it was ended first. kNotFound: nobody's, or not this owner's.
  virtual base::Result<Operation> end_operation(const std::string& id, const std::string& owner,
                                                const OperationOutcome& outcome,
                                                std::int64_t now_unix_ms) = 0;
  virtual base::Result<Operation> find_operation(const std::string& id,
                                                 std::int64_t now_unix_ms) = 0;
  /// The newest first, without results.
  virtual base::Result<std::vector<Operation>> list_operations(std::uint32_t limit,
                                                               std::int64_t now_unix_ms) = 0;

 protected:
  ~Operations() = default;
};

/// Ends with its object, which must go before the catalog does; its destructor waits for a callback
/// in progress.
class Watch {
 public:
  virtual ~Watch() = default;
};

class Catalog : public Models,
                public Deployments,
                public Access,
                public Usage,
                public Audit,
                public Leases,
                public Operations {
 public:
  virtual ~Catalog() = default;
  Catalog() = default;
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// The number of the last change; 0: none was made yet.
  virtual base::Result<std::uint64_t> revision() = 0;
  /// Calls back on a thread of its own with the revision now, and then whenever it has risen,
  /// whoever made the change, in this process or another; several changes may come as one call.
  /// What happened while the store could not be reached is told once it can be again.
  virtual base::Result<std::unique_ptr<Watch>> watch(
      std::function<void(std::uint64_t revision)> changed) = 0;
  /// Ok if the database answers.
  virtual base::Status ping() = 0;
};

}  // namespace conclave::catalog
