// A fleet in one thread with a clock of its own: workers that load what they are told, routers that
// take tables, and the scheduler's core between them. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bits.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler::test {

constexpr std::uint64_t kExpertBytes = 1000;

inline wire::ModelVersion version_of(std::uint32_t number) {
  return {"m", number, "/models/m" + std::to_string(number), std::string(64, 'a')};
}

inline wire::ModelRecord record_of(std::uint32_t number, std::uint32_t layers,
                                   std::uint32_t experts, std::uint32_t dense = 1) {
  wire::ModelRecord record;
  record.model = version_of(number);
  record.layers = layers;
  record.dense_layers = dense;
  record.experts = experts;
  record.experts_used = 2;
  record.expert_bytes = kExpertBytes;
  return record;
}

inline wire::ModelDigests digests_of(const wire::ModelRecord& record) {
  wire::ModelDigests digests;
  digests.model = record.model;
  digests.layers = record.layers;
  digests.experts = record.experts;
  digests.expert.resize(std::size_t{record.layers} * record.experts);
  for (std::size_t i = 0; i < digests.expert.size(); ++i) {
    digests.expert[i].fill(static_cast<std::uint8_t>(i + 1));
  }
  return digests;
}

inline WantedModel wanted_of(const wire::ModelRecord& record) {
  return {.record = record,
          .digests = std::make_shared<const wire::ModelDigests>(digests_of(record)),
          .policy = {},
          .pins = {}};
}

/// One version on a worker.
struct FakeOpen {
  wire::ModelVersion model;
  wire::ExpertBits hosted;
  std::deque<wire::AssignedExpert> wanted;
};

/// Hosts what its assignments say; load() brings one more expert.
struct FakeWorker {
  std::string name;
  std::uint64_t incarnation = 1;
  std::uint64_t room = 1'000'000;
  std::uint32_t slots = 0;
  bool draining = false;
  std::uint64_t epoch_seen = 0;
  std::vector<FakeOpen> open;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> pairs;  // computed, by expert

  /// Of the first version, or of this one.
  [[nodiscard]] wire::ExpertBits hosted() const {
    return open.empty() ? wire::ExpertBits() : open.front().hosted;
  }
  [[nodiscard]] wire::ExpertBits hosted(const wire::ModelVersion& model) const {
    for (const FakeOpen& one : open) {
      if (wire::is_same_bytes(one.model, model)) return one.hosted;
    }
    return {};
  }
  [[nodiscard]] std::size_t copies() const {
    std::size_t copies = 0;
    for (const FakeOpen& one : open) copies += one.hosted.count();
    return copies;
  }
  [[nodiscard]] bool is_loading() const {
    return std::any_of(open.begin(), open.end(),
                       [](const FakeOpen& one) { return !one.wanted.empty(); });
  }

  [[nodiscard]] wire::NodeReport report() const {
    wire::NodeReport report;
    report.node = name;
    report.role = wire::NodeRole::kExpertWorker;
    report.incarnation = incarnation;
    // As the real one: while it loads it says that it is starting.
    report.state = draining       ? wire::NodeState::kDraining
                   : is_loading() ? wire::NodeState::kStarting
                                  : wire::NodeState::kReady;
    report.address = "tcp://" + name;
    report.memory_bytes = room * kExpertBytes;
    report.slots = slots;
    report.epoch_seen = epoch_seen;
    for (const FakeOpen& one : open) {
      wire::HostedModel& hosted = report.models.emplace_back();
      hosted.model = one.model;
      hosted.ready = one.hosted;
      for_each(one.hosted, [&](std::uint32_t layer, std::uint32_t index) {
        const auto known = pairs.find({layer, index});
        hosted.expert_pairs.push_back(known == pairs.end() ? 0 : known->second);
      });
    }
    return report;
  }

  using Shapes = std::map<std::uint32_t, wire::ModelRecord>;  // by version
  void apply(const std::vector<wire::Assignment>& assignments, const Shapes& shapes) {
    std::vector<FakeOpen> next;
    std::uint64_t listed_in_all = 0;
    for (const wire::Assignment& assignment : assignments) {
      ASSERT_GT(assignment.epoch, epoch_seen);
      if (assignment.model.version == 0) continue;
      const wire::ModelRecord& shape = shapes.at(assignment.model.version);
      FakeOpen& one = next.emplace_back();
      one.model = assignment.model;
      one.hosted = hosted(assignment.model);
      if (one.hosted.layers() == 0) one.hosted = wire::ExpertBits(shape.layers, shape.experts);
      wire::ExpertBits listed(shape.layers, shape.experts);
      for (const wire::AssignedExpert& expert : assignment.experts) {
        EXPECT_FALSE(listed.test(expert.layer, expert.index)) << "assigned twice";
        listed.set(expert.layer, expert.index);
        if (!one.hosted.test(expert.layer, expert.index)) one.wanted.push_back(expert);
      }
      one.hosted = one.hosted & listed;
      listed_in_all += listed.count();
    }
    EXPECT_LE(listed_in_all, slots == 0 ? room : std::min<std::uint64_t>(room, slots))
        << name << " was told to host more than fits";
    epoch_seen = assignments.front().epoch;
    open = std::move(next);
  }

  bool load() {
    for (FakeOpen& one : open) {
      if (one.wanted.empty()) continue;
      one.hosted.set(one.wanted.front().layer, one.wanted.front().index);
      one.wanted.pop_front();
      return true;
    }
    return false;
  }
};

/// Opens each version that it has a table of, at once, and serves it when its table is whole.
struct FakeRouter {
  std::string name;
  wire::RoutingTable table{};  // the first one of the newest reply
  std::vector<wire::RoutingTable> tables{};
  std::set<std::uint32_t> busy{};  // versions that it computes something of

  [[nodiscard]] wire::NodeReport report() const {
    wire::NodeReport report;
    report.node = name;
    report.role = wire::NodeRole::kRouter;
    report.incarnation = 1;
    report.state = wire::NodeState::kReady;
    report.address = "tcp://" + name;
    report.epoch_seen = table.epoch;
    for (const wire::RoutingTable& one : tables) {
      if (one.model.version == 0) continue;
      if (one.leaving && !busy.contains(one.model.version)) continue;
      report.models.push_back({.model = one.model,
                               .state = one.leaving     ? wire::NodeState::kDraining
                                        : is_whole(one) ? wire::NodeState::kReady
                                                        : wire::NodeState::kStarting});
    }
    return report;
  }

  [[nodiscard]] const wire::RoutingTable* table_of(std::uint32_t version) const {
    for (const wire::RoutingTable& one : tables) {
      if (one.model.version == version) return &one;
    }
    return nullptr;
  }
  // Leading layers without any copy are dense.
  [[nodiscard]] static bool is_whole(const wire::RoutingTable& table) {
    bool begun = false;
    for (std::uint32_t layer = 0; layer < table.layers; ++layer) {
      std::uint32_t served = 0;
      for (std::uint32_t index = 0; index < table.experts; ++index) {
        served += table.pool_of(layer, index).empty() ? 0u : 1u;
      }
      if (served != table.experts && (begun || served > 0)) return false;
      begun |= served > 0;
    }
    return begun;
  }
};

class FakeFleet {
 public:
  /// One copy of each expert, and time to be late: what most tests are about.
  static SchedulerSettings settings() {
    SchedulerSettings settings;
    settings.replicas = 1;
    settings.lease = std::chrono::milliseconds(5000);
    return settings;
  }

  explicit FakeFleet(SchedulerSettings settings = FakeFleet::settings(), std::uint32_t layers = 4,
                     std::uint32_t experts = 8)
      : settings_(std::move(settings)), record_(record_of(1, layers, experts)) {
    restart_scheduler();
  }

  void restart_scheduler(std::chrono::seconds clock_step = std::chrono::seconds(1),
                         bool registry_is_there = true) {
    wall_clock_ += clock_step;
    core_ = std::make_unique<SchedulerCore>(settings_, make_planner_(), wall_clock_, now_,
                                            telemetry::Logger());
    if (registry_is_there) tell_model();
  }

  void tell_model() { tell({record_}); }
  /// What is to be served, by the registry.
  void tell(const std::vector<wire::ModelRecord>& records) {
    std::vector<WantedModel> wanted;
    for (const wire::ModelRecord& record : records) {
      shapes_[record.model.version] = record;
      wanted.push_back(wanted_of(record));
    }
    ASSERT_TRUE(core_->on_models(std::move(wanted), now_));
  }

  FakeWorker& add_worker(const std::string& name, std::uint64_t room = 1'000'000) {
    FakeWorker worker;
    worker.name = name;
    worker.room = room;
    worker.incarnation = ++incarnations_;
    new_.insert(name);
    return workers_[name] = std::move(worker);
  }
  FakeRouter& add_router(const std::string& name) { return routers_[name] = FakeRouter{name}; }
  void kill(const std::string& worker) { workers_.erase(worker); }

  base::Result<wire::ReportReply> report(FakeWorker& worker) {
    auto reply = core_->on_report(worker.report(), now_);
    if (reply && !reply->assignments.empty()) {
      check_drops(worker, reply->assignments);
      worker.apply(reply->assignments, shapes_);
    }
    return reply;
  }
  base::Result<wire::ReportReply> report(FakeRouter& router) {
    auto reply = core_->on_report(router.report(), now_);
    if (reply && !reply->tables.empty()) {
      EXPECT_GT(reply->tables[0].epoch, router.table.epoch);
      for (const wire::RoutingTable& table : reply->tables) {
        EXPECT_EQ(table.epoch, reply->tables[0].epoch);
        if (table.model.version != 0) check_table(router, table);
      }
      router.table = reply->tables[0];
      router.tables = std::move(reply->tables);
    }
    return reply;
  }

  /// A tenth of a second: every worker loads up to `loads` experts; who loaded, was nudged or is
  /// due reports.
  void step(int loads = 4) {
    now_ += std::chrono::milliseconds(100);
    wall_clock_ += std::chrono::milliseconds(100);
    ++steps_;
    std::set<std::string> talkative = std::exchange(new_, {});
    for (auto& [name, worker] : workers_) {
      for (int i = 0; i < loads; ++i) {
        if (worker.load()) talkative.insert(name);
      }
    }
    core_->on_tick(now_);
    // A nudged node reports at once; its report may be news for others.
    for (int round = 0; round < 3; ++round) {
      for (const NudgeTo& nudge : core_->take_nudges()) talkative.insert(nudge.node);
      for (auto& [name, worker] : workers_) {
        if (talkative.contains(name) || (round == 0 && steps_ % 10 == 0)) {
          ASSERT_TRUE(report(worker));
        }
      }
      for (auto& [name, router] : routers_) {
        if (talkative.contains(name) || (round == 0 && steps_ % 10 == 0)) {
          ASSERT_TRUE(report(router));
        }
      }
      talkative.clear();
    }
  }

  void run(std::chrono::milliseconds time, int loads = 4) {
    for (auto left = time; left > std::chrono::milliseconds(0);
         left -= std::chrono::milliseconds(100))
      step(loads);
  }

  /// Everything that workers host, as names of workers by expert.
  [[nodiscard]] std::size_t copies() const {
    std::size_t copies = 0;
    for (const auto& [name, worker] : workers_) copies += worker.copies();
    return copies;
  }
  [[nodiscard]] wire::Fleet fleet() const { return core_->fleet(now_); }

  SchedulerSettings settings_;
  wire::ModelRecord record_;
  FakeWorker::Shapes shapes_;  // of all versions that were told
  std::unique_ptr<SchedulerCore> core_;
  std::map<std::string, FakeWorker> workers_;
  std::map<std::string, FakeRouter> routers_;
  Time now_{std::chrono::hours(1)};
  std::chrono::system_clock::time_point wall_clock_{std::chrono::hours(24 * 365 * 55)};
  std::uint64_t incarnations_ = 0;
  int steps_ = 0;
  /// Counts experts and nothing else, so that tests of the roll-out can say how many are where.
  std::function<std::unique_ptr<placement::Planner>()> make_planner_ = [] {
    return std::make_unique<placement::SpreadPlanner>();
  };
  std::set<std::string> new_;  // have not reported yet
  bool checks_ = true;         // that nothing is lost; off for tests in which everything may be

 private:
  // What a worker is told to drop, no router may still be told to use.
  void check_drops(const FakeWorker& worker, const std::vector<wire::Assignment>& assignments) {
    if (!checks_) return;
    for (const FakeOpen& one : worker.open) {
      const wire::ModelRecord& shape = shapes_.at(one.model.version);
      wire::ExpertBits listed(shape.layers, shape.experts);
      for (const wire::Assignment& assignment : assignments) {
        if (!wire::is_same_bytes(assignment.model, one.model)) continue;
        for (const auto& expert : assignment.experts) listed.set(expert.layer, expert.index);
      }
      for (const auto& [name, router] : routers_) {
        const wire::RoutingTable* table = router.table_of(one.model.version);
        if (table == nullptr || (table->leaving && !router.busy.contains(one.model.version))) {
          continue;
        }
        for_each(one.hosted - listed, [&, name = name](auto layer, auto index) {
          for (const std::uint16_t at : table->pool_of(layer, index)) {
            EXPECT_FALSE(table->workers[at].node == worker.name &&
                         table->workers[at].incarnation == worker.incarnation)
                << worker.name << " drops (" << layer << ", " << index << ") of version "
                << one.model.version << ", which " << name << " may call there";
          }
        });
      }
    }
  }

  // A table names workers that host the expert, at most once, and has every expert that the table
  // before it had on a worker which still hosts it.
  void check_table(const FakeRouter& router, const wire::RoutingTable& table) {
    ASSERT_EQ(table.first.size(), std::size_t{table.layers} * table.experts + 1);
    for (std::uint32_t layer = 0; layer < table.layers; ++layer) {
      for (std::uint32_t index = 0; index < table.experts; ++index) {
        std::set<std::string> pool;
        for (const std::uint16_t at : table.pool_of(layer, index)) {
          const wire::WorkerEndpoint& endpoint = table.workers.at(at);
          EXPECT_TRUE(pool.insert(endpoint.node).second);
          const auto worker = workers_.find(endpoint.node);
          if (worker == workers_.end()) continue;  // died, and its lease has not run out
          if (worker->second.incarnation != endpoint.incarnation) continue;
          EXPECT_TRUE(worker->second.hosted(table.model).test(layer, index))
              << endpoint.node << " does not host (" << layer << ", " << index << ")";
        }
        const wire::RoutingTable* before = router.table_of(table.model.version);
        if (!checks_ || !pool.empty() || before == nullptr) continue;
        for (const std::uint16_t at : before->pool_of(layer, index)) {
          const auto worker = workers_.find(before->workers[at].node);
          EXPECT_FALSE(worker != workers_.end() &&
                       worker->second.incarnation == before->workers[at].incarnation &&
                       worker->second.hosted(table.model).test(layer, index))
              << "(" << layer << ", " << index << ") was taken from " << worker->first
              << ", and nobody else has it";
        }
      }
    }
  }
};

}  // namespace conclave::scheduler::test
