// What services ask of the registry while they work: whose key this is, what was used, who leads,
// and what is to be remembered. Calls of the catalogue and their answers; knows no actor.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"
#include "conclave/wire/ledger.hpp"
#include "snapshot.hpp"

namespace conclave::registry {

/// One thread; calls wait for the database.
class Ledger {
 public:
  using WallClock = std::function<std::chrono::system_clock::time_point()>;

  /// The catalogue must outlive it.
  Ledger(catalog::Catalog& catalog, WallClock wall_clock);

  /// While the database is away: what was answered last, if it was asked before, as `stale`.
  base::Result<wire::KeyAnswer> key(const wire::KeyQuestion& question);
  base::Result<wire::Recorded> usage(const wire::UsageBatch& batch);
  base::Result<wire::LeaseReply> lease(const wire::LeaseRequest& request);
  /// What is kept for the holder of a lease.
  base::Result<wire::StateReply> state(const wire::StateRequest& request);
  /// `actor`: the node that says so.
  /// kOverloaded: that node said more than kEventsMax, and more than one every kEventEvery since:
  /// a node that has gone wrong shall not fill the audit, which keeps everything for ever.
  base::Result<wire::Recorded> event(const wire::AuditEvent& event, const std::string& actor);

  /// What one node may say at once: all that a scheduler's largest fleet of one bad file refuses.
  static constexpr double kEventsMax = 1024;
  static constexpr std::chrono::seconds kEventEvery{1};
  /// Nodes whose events are counted; the one that was quiet for longest goes first.
  static constexpr std::size_t kNodesMax = 4096;
  /// How old a tenant's sums may be in an answer: a change makes every gateway ask for all its keys
  /// again, and adding up a month may read many rows.
  static constexpr std::chrono::seconds kUsedFresh{5};

 private:
  struct Budget {
    double events = kEventsMax;
    std::chrono::system_clock::time_point at;
  };

  /// What a tenant has used by now.
  struct Used {
    std::chrono::system_clock::time_point at;
    std::int32_t day = 0;
    std::uint64_t day_tokens = 0;
    std::uint64_t month_tokens = 0;
  };

  base::Result<wire::TenantQuota> quota_of(const std::string& tenant);
  base::Result<Used> used_by(const std::string& tenant);
  base::Status take_budget(const std::string& node);
  [[nodiscard]] std::int64_t now_unix_ms() const;
  base::Result<wire::KeyAnswer> look_up(const wire::KeyQuestion& question);

  // Keys that are in use at once, some hundred bytes each.
  static constexpr std::size_t kKeysMax = 100'000;
  // Tenants whose sums are remembered; beyond, all are added up again.
  static constexpr std::size_t kUsedMax = 10'000;

  catalog::Catalog& catalog_;
  WallClock wall_clock_;
  std::map<std::string, Budget> budgets_;  // of nodes' events
  std::map<std::string, Used> used_;       // by tenant
  Snapshot<wire::KeyAnswer> keys_{kKeysMax, std::size_t{64} << 20};
};

}  // namespace conclave::registry
