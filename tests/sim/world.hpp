// A fleet, its network and what befalls them, and the promises that must hold at every step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nodes.hpp"

namespace conclave::sim {

struct WorldOptions {
  std::uint64_t seed = 1;
  std::uint32_t workers = 4;
  std::uint32_t routers = 2;
  std::uint32_t replicas = 2;
  std::uint32_t layers = 4;  // the first one is dense
  std::uint32_t experts = 8;
  std::uint32_t schedulers = 1;
  std::uint32_t versions = 1;  // wanted from the start, of at most 4
};

class World {
 public:
  explicit World(const WorldOptions& options);

  Loop loop;
  Network network{loop};

  // Beyond the nodes, which count from 1.
  static constexpr NodeIndex kRegistry = 1'000'000;
  static constexpr NodeIndex kSchedulers = 2'000'000;
  static constexpr std::chrono::milliseconds kLease{2000};

  [[nodiscard]] const WorldOptions& options() const { return options_; }
  /// Of the versions that are served, which are of one shape; from 1.
  [[nodiscard]] const std::vector<wire::ModelRecord>& records() const { return records_; }
  [[nodiscard]] const wire::ModelRecord& record() const { return records_.front(); }
  [[nodiscard]] static wire::ModelDigests digests(const wire::ModelRecord& record);
  Scheduler& scheduler() { return *schedulers_.front(); }
  std::vector<std::unique_ptr<Scheduler>>& schedulers() { return schedulers_; }
  [[nodiscard]] std::size_t number_of(const Scheduler& scheduler) const;
  [[nodiscard]] std::vector<std::string> addresses() const;
  Registry& registry() { return registry_; }
  std::vector<std::unique_ptr<Worker>>& workers() { return workers_; }
  std::vector<std::unique_ptr<Router>>& routers() { return routers_; }
  [[nodiscard]] Reporter* node(NodeIndex index);
  Worker& add_worker();
  [[nodiscard]] std::uint64_t next_incarnation() { return ++incarnations_; }
  [[nodiscard]] std::uint64_t next_call() { return ++calls_; }

  void run(Duration time) { loop.run_until(loop.now() + time); }
  /// One thing that happens to a real fleet, and its end some time later.
  void befall();
  /// All is well again from here on: what was cut is mended, what ended is started.
  void heal();

  // Promises; what is broken is kept, with the time.

  void broken(const std::string& what);
  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
  /// A table that a router takes names only what is there to be called.
  void check_table(const Router& router, const wire::RoutingTable& table);
  /// What a worker drops no router in touch may still call.
  void check_drop(const Worker& worker, std::uint32_t version, std::uint32_t layer,
                  std::uint32_t expert);
  /// After heal() and some time: everything is where it should be, and nobody waits.
  void check_settled();

  /// Every connection to the worker breaks, for those who are not parted from it.
  void drop_links(const Worker& worker, std::uint64_t incarnation);
  void note(const std::string& event);
  [[nodiscard]] const std::vector<std::string>& story() const { return story_; }

 private:
  void befall_worker(Worker& worker);
  void check_floor(const Router& router, const wire::ModelRecord& record);
  Scheduler& any_scheduler();
  void part(NodeIndex a, NodeIndex b, Duration time);

  WorldOptions options_;
  std::vector<wire::ModelRecord> records_;
  Registry registry_{loop};
  std::vector<std::unique_ptr<Scheduler>> schedulers_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Router>> routers_;
  std::vector<Reporter*> nodes_;  // by index, from 1
  std::uint64_t incarnations_ = 0;
  std::uint64_t calls_ = 0;
  bool healed_ = false;
  std::vector<std::string> violations_;
  std::vector<std::string> story_;
};

}  // namespace conclave::sim
