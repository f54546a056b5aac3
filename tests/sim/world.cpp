#include "world.hpp"

#include <algorithm>
#include <cstdio>
#include <set>

namespace conclave::sim {
namespace {

// An end is seen by its peers when the connection breaks.
constexpr Duration kResetSeen = milliseconds(2);

}  // namespace

World::World(const WorldOptions& options) : loop(options.seed), options_(options) {
  for (std::uint32_t version = 1; version <= options.versions; ++version) {
    wire::ModelRecord& record = records_.emplace_back();
    record.model = {"m", version, "/models/m" + std::to_string(version),
                    std::string(64, static_cast<char>('a' + version))};
    record.layers = options.layers;
    record.dense_layers = 1;
    record.experts = options.experts;
    record.experts_used = 2;
    record.expert_bytes = 1000;
  }
  for (std::uint32_t i = 0; i < options.schedulers; ++i) {
    schedulers_.push_back(
        std::make_unique<Scheduler>(*this, kSchedulers + i, "s" + std::to_string(i)));
  }
  for (const auto& scheduler : schedulers_) scheduler->start();
  for (std::uint32_t i = 0; i < options.routers; ++i) {
    const auto index = static_cast<NodeIndex>(nodes_.size() + 1);
    routers_.push_back(
        std::make_unique<Router>(*this, index, "r" + std::to_string(i), 1 + i % options.versions));
    nodes_.push_back(routers_.back().get());
    routers_.back()->start();
  }
  for (std::uint32_t i = 0; i < options.workers; ++i) add_worker();
}

wire::ModelDigests World::digests(const wire::ModelRecord& record) {
  wire::ModelDigests digests;
  digests.model = record.model;
  digests.layers = record.layers;
  digests.experts = record.experts;
  digests.expert.resize(std::size_t{record.layers} * record.experts);
  for (auto& digest : digests.expert) digest.fill(7);
  return digests;
}

std::size_t World::number_of(const Scheduler& scheduler) const {
  return scheduler.index() - kSchedulers;
}

std::vector<std::string> World::addresses() const {
  std::vector<std::string> addresses;
  for (const auto& scheduler : schedulers_) addresses.push_back(scheduler->address());
  return addresses;
}

Scheduler& World::any_scheduler() {
  if (schedulers_.size() == 1) return *schedulers_.front();
  return *schedulers_[loop.upto(static_cast<std::uint32_t>(schedulers_.size()) - 1)];
}

Reporter* World::node(NodeIndex index) {
  return index == 0 || index > nodes_.size() ? nullptr : nodes_[index - 1];
}

Worker& World::add_worker() {
  const auto index = static_cast<NodeIndex>(nodes_.size() + 1);
  workers_.push_back(std::make_unique<Worker>(*this, index, "w" + std::to_string(workers_.size())));
  nodes_.push_back(workers_.back().get());
  workers_.back()->start();
  return *workers_.back();
}

void World::note(const std::string& event) {
  std::array<char, 32> when{};
  std::snprintf(when.data(), when.size(), "%8.3f s  ",
                std::chrono::duration<double>(loop.age()).count());
  story_.push_back(when.data() + event);
}

void World::broken(const std::string& what) {
  note("BROKEN: " + what);
  violations_.push_back(story_.back());
}

// ---- what happens ----

void World::befall() {
  const auto soon = [this](Duration least, Duration most, Action action) {
    loop.in(loop.between(least, most), [this, action = std::move(action)] {
      if (!healed_) action();
    });
  };
  switch (loop.upto(9)) {
    case 0:
    case 1: {
      Scheduler& scheduler = any_scheduler();
      if (schedulers_.size() > 1 && loop.chance(0.5)) {
        part(scheduler.index(), kRegistry, loop.between(milliseconds(100), seconds(6)));
        break;
      }
      note(scheduler.address() + " dies");
      if (!scheduler.is_alive()) break;
      scheduler.kill();
      soon(milliseconds(10), seconds(4), [&scheduler] {
        if (!scheduler.is_alive()) scheduler.start();
      });
      break;
    }
    case 2:
      note("foul weather");
      network.weather = {microseconds(50), milliseconds(60), 0.1, 0.1};
      soon(milliseconds(200), seconds(4), [this] { network.weather = {}; });
      break;
    case 3:
      note("a worker joins");
      if (workers_.size() < 8) add_worker();
      break;
    case 4: {
      const NodeIndex other = 1 + loop.upto(static_cast<std::uint32_t>(nodes_.size()) - 1);
      part(any_scheduler().index(), other, loop.between(milliseconds(100), seconds(6)));
      break;
    }
    default:
      befall_worker(*workers_[loop.upto(static_cast<std::uint32_t>(workers_.size()) - 1)]);
  }
}

void World::befall_worker(Worker& worker) {
  if (!worker.is_alive() || worker.is_stopped()) return;
  const auto later = [this, &worker](Duration least, Duration most, Action action) {
    loop.in(loop.between(least, most), [this, &worker, life = worker.life(), action] {
      if (!healed_ && worker.life() == life) action();
    });
  };
  switch (loop.upto(4)) {
    case 0:
      note(worker.name() + " is killed");
      worker.kill();
      later(milliseconds(100), seconds(5), [&worker] { worker.start(); });
      break;
    case 1:
      note(worker.name() + " is stopped");
      worker.stop();
      later(milliseconds(20), seconds(10), [this, &worker] {
        note(worker.name() + " goes on");
        worker.go_on();
      });
      break;
    case 2:
      note(worker.name() + " is ten times as slow");
      worker.slow_down(10);
      later(milliseconds(100), seconds(6), [&worker] { worker.slow_down(1); });
      break;
    case 3: {
      const Router& router = *routers_[loop.upto(static_cast<std::uint32_t>(routers_.size()) - 1)];
      part(router.index(), worker.index(), loop.between(milliseconds(100), seconds(6)));
      break;
    }
    case 4:
      note(worker.name() + " drains");
      worker.drain();
      later(seconds(1), seconds(8), [this, &worker] {
        note(worker.name() + " ends");
        worker.kill();
      });
      break;
  }
}

void World::part(NodeIndex a, NodeIndex b, Duration time) {
  note("nodes " + std::to_string(a) + " and " + std::to_string(b) + " are parted");
  network.cut(a, b);
  loop.in(time, [this, a, b] { network.mend(a, b); });
}

void World::heal() {
  note("all is well");
  healed_ = true;
  network.weather = {};
  network.mend_all();
  for (const auto& scheduler : schedulers_) {
    if (!scheduler->is_alive()) scheduler->start();
  }
  for (const auto& worker : workers_) {
    worker->slow_down(1);
    if (worker->is_stopped()) worker->go_on();
    if (worker->is_draining() && worker->is_alive()) worker->kill();
    if (!worker->is_alive()) worker->start();
  }
}

void World::drop_links(const Worker& worker, std::uint64_t incarnation) {
  for (const auto& router : routers_) {
    if (network.is_cut(router->index(), worker.index())) continue;  // heartbeats will tell
    router->after(kResetSeen, [to = router.get(), name = worker.name(), incarnation] {
      to->on_link_lost(name, incarnation);
    });
  }
}

// ---- promises ----

void World::check_table(const Router& router, const wire::RoutingTable& table) {
  for (std::uint32_t layer = 0; layer < table.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < table.experts; ++expert) {
      std::set<std::string> pool;
      for (const std::uint16_t at : table.pool_of(layer, expert)) {
        const wire::WorkerEndpoint& endpoint = table.workers.at(at);
        if (!pool.insert(endpoint.node).second) broken("a worker is twice in a pool");
        for (const auto& worker : workers_) {
          if (worker->name() != endpoint.node || !worker->is_alive()) continue;
          if (worker->incarnation() != endpoint.incarnation) continue;
          if (!worker->hosts(table.model.version, layer, expert)) {
            broken(router.name() + " is told of (" + std::to_string(layer) + ", " +
                   std::to_string(expert) + ") on " + worker->name() + ", which is not ready");
          }
        }
      }
    }
  }
}

void World::check_drop(const Worker& worker, std::uint32_t version, std::uint32_t layer,
                       std::uint32_t expert) {
  for (const auto& router : routers_) {
    const wire::RoutingTable* table = router->table(version);
    if (table == nullptr) continue;
    // Nobody waits longer than a lease for a router that is not heard, and a scheduler that was
    // started since then has never heard of it.
    if (loop.now() - router->in_touch() >= kLease - milliseconds(100)) continue;
    if (network.is_cut(kSchedulers + static_cast<NodeIndex>(router->followed()), router->index())) {
      continue;
    }
    for (const std::uint16_t at : table->pool_of(layer, expert)) {
      const wire::WorkerEndpoint& endpoint = table->workers[at];
      if (endpoint.node != worker.name() || endpoint.incarnation != worker.incarnation()) continue;
      broken(worker.name() + " drops (" + std::to_string(layer) + ", " + std::to_string(expert) +
             "), which " + router->name() + " may call there");
    }
  }
}

void World::check_floor(const Router& router, const wire::ModelRecord& record) {
  const wire::RoutingTable* table = router.table(record.model.version);
  const std::string of = " of version " + std::to_string(record.model.version);
  if (table == nullptr) return broken(router.name() + " has no table" + of);
  for (std::uint32_t layer = 1; layer < options_.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < options_.experts; ++expert) {
      if (table->pool_of(layer, expert).size() >= options_.replicas) continue;
      broken(router.name() + " knows too few replicas of (" + std::to_string(layer) + ", " +
             std::to_string(expert) + ")" + of);
    }
  }
}

void World::check_settled() {
  const auto leaders =
      std::ranges::count_if(schedulers_, [](const auto& scheduler) { return scheduler->leads(); });
  if (leaders != 1) broken(std::to_string(leaders) + " schedulers lead");
  for (const auto& router : routers_) {
    if (!router->is_idle()) broken(router->name() + " has a request that does not end");
    if (router->requests() == 0) broken(router->name() + " has done nothing");
    for (const wire::ModelRecord& record : records_) check_floor(*router, record);
  }
  for (const auto& worker : workers_) {
    if (!worker->has_loaded()) broken(worker->name() + " still loads");
  }
}

}  // namespace conclave::sim
