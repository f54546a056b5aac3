// Fleets in one thread, by seed: faults of every kind, and a scheduler that dies after each single
// message of a roll-out. CONCLAVE_SIM_SEED replays one seed and tells its story;
// CONCLAVE_SIM_SEEDS says how many there are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "world.hpp"

namespace conclave::sim {
namespace {

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

void tell(const World& world) {
  for (const std::string& line : world.story()) std::printf("%s\n", line.c_str());
}

bool expect_kept(const World& world, std::uint64_t seed) {
  if (world.violations().empty()) return true;
  tell(world);
  ADD_FAILURE() << world.violations().size()
                << " promises broken, first: " << world.violations().front()
                << "\nreplay: CONCLAVE_SIM_SEED=" << seed;
  return false;
}

// Requests that stop being taken up, and time for what is left.
void finish(World& world, Duration time = seconds(12)) {
  world.heal();
  world.run(time);
  for (const auto& router : world.routers()) router->finish();
  world.run(seconds(3));
  world.check_settled();
}

WorldOptions options_of(std::uint64_t seed) {
  Loop draw(seed ^ 0x5eed);
  WorldOptions options;
  options.seed = seed;
  options.workers = 2 + draw.upto(3);
  options.routers = 1 + draw.upto(1);
  options.replicas = 1 + draw.upto(1);
  options.versions = 1 + draw.upto(1);
  return options;
}

struct Totals {
  std::uint64_t requests = 0;
  std::uint64_t resends = 0;
  std::uint64_t hedges = 0;
  std::uint64_t late = 0;
  std::uint64_t refusals = 0;
  Duration longest{};

  void add(World& world) {
    for (const auto& router : world.routers()) {
      requests += router->requests();
      resends += router->stats().resends;
      hedges += router->stats().hedges;
      late += router->stats().late;
      refusals += router->refusals();
      longest = std::max(longest, router->longest_layer());
    }
  }
  void print(std::uint64_t seeds) const {
    std::printf(
        "%llu seeds: %llu requests, %llu calls resent, %llu hedged, %llu late answers unused, %llu "
        "refusals, longest layer %.3f s\n",
        static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(requests),
        static_cast<unsigned long long>(resends), static_cast<unsigned long long>(hedges),
        static_cast<unsigned long long>(late), static_cast<unsigned long long>(refusals),
        std::chrono::duration<double>(longest).count());
  }
};

TEST(SimulationTest, KeepsItsPromisesWhateverHappens) {
  const std::uint64_t only = setting("CONCLAVE_SIM_SEED", 0);
  const std::uint64_t seeds = only != 0 ? 1 : setting("CONCLAVE_SIM_SEEDS", 1000);
  Totals totals;
  for (std::uint64_t i = 0; i < seeds; ++i) {
    const std::uint64_t seed = only != 0 ? only : i + 1;
    World world(options_of(seed));
    world.run(seconds(4));
    for (std::uint32_t left = 3 + world.loop.upto(7); left > 0; --left) {
      world.befall();
      world.run(world.loop.between(milliseconds(1), seconds(3)));
    }
    finish(world);
    totals.add(world);
    if (only != 0) tell(world);
    if (!expect_kept(world, seed)) return;
  }
  totals.print(seeds);
}

// Two schedulers that die, and are parted from the registry that lends the lead, from each other's
// nodes, or from both: what one of them says counts, and the one that leads knows what the other
// one was told.
TEST(SimulationTest, OfTwoSchedulersOneHasEffects) {
  const std::uint64_t only = setting("CONCLAVE_SIM_SEED", 0);
  const std::uint64_t seeds = only != 0 ? 1 : setting("CONCLAVE_SIM_SEEDS", 1000) / 2;
  Totals totals;
  std::uint64_t leads = 0;
  for (std::uint64_t i = 0; i < seeds; ++i) {
    const std::uint64_t seed = only != 0 ? only : i + 1;
    WorldOptions options = options_of(seed);
    options.schedulers = 2;
    World world(options);
    world.run(seconds(6));
    for (std::uint32_t left = 3 + world.loop.upto(7); left > 0; --left) {
      world.befall();
      world.run(world.loop.between(milliseconds(1), seconds(3)));
    }
    finish(world);
    totals.add(world);
    for (const auto& router : world.routers()) leads = std::max(leads, router->term());
    if (only != 0) tell(world);
    if (!expect_kept(world, seed)) return;
  }
  EXPECT_TRUE(only != 0 || leads > 2) << "nobody was ever replaced";
  totals.print(seeds);
}

// Two hundred points of a roll-out: a worker joins, another drains, and the scheduler dies right
// after its n-th message from there.
void expect_any_point_survived(std::uint32_t schedulers, std::uint32_t versions) {
  Totals totals;
  std::uint64_t points = 0;
  for (std::uint64_t point = 1; point <= 200; ++point) {
    WorldOptions options;
    options.seed = 1;  // the same roll-out each time
    options.workers = 3;
    options.experts = 24 / versions;
    options.schedulers = schedulers;
    options.versions = versions;
    World world(options);
    world.run(seconds(6));
    const auto leader = std::ranges::find_if(
        world.schedulers(), [](const auto& scheduler) { return scheduler->leads(); });
    ASSERT_NE(leader, world.schedulers().end());
    const std::uint64_t life = (*leader)->life();
    world.add_worker();
    world.workers()[0]->drain();
    (*leader)->die_after(point);
    world.run(seconds(5));
    points += (*leader)->life() > life ? 1u : 0u;
    finish(world, seconds(5));
    totals.add(world);
    if (!expect_kept(world, options.seed)) {
      ADD_FAILURE() << "the scheduler died after message " << point;
      return;
    }
  }
  EXPECT_EQ(points, 200u) << "the roll-out is shorter than that";
  totals.print(points);
}

TEST(SimulationTest, ASchedulerMayDieAtAnyPointOfARollout) { expect_any_point_survived(1, 1); }

TEST(SimulationTest, OfTwoSchedulersOfTwoVersionsTheLeaderMayDieAtAnyPointOfARollout) {
  expect_any_point_survived(2, 2);
}

// While nothing happens, nobody waits: what the figures of the other tests are to be held against.
TEST(SimulationTest, ACalmFleetAnswersWithoutASecondThought) {
  WorldOptions options;
  World world(options);
  world.run(seconds(4));
  finish(world);
  EXPECT_TRUE(expect_kept(world, options.seed));
  for (const auto& router : world.routers()) {
    EXPECT_GT(router->requests(), 20u);
    EXPECT_EQ(router->refusals(), 0u);
  }
}

// kill -9 at any moment, and a stop that no connection tells of, with a second replica of
// everything: the calls under way go elsewhere, at once or on their deadline, and no layer takes
// longer than that.
TEST(SimulationTest, ALostWorkerIsHardlyNoticed) {
  for (const bool stops : {false, true}) {
    Duration calm{};
    Duration longest{};
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      WorldOptions options;
      options.seed = seed;
      World world(options);
      const auto watch = [&](Duration time) {
        for (const auto& router : world.routers()) router->forget_longest();
        world.run(time);
        Duration most{};
        for (const auto& router : world.routers()) most = std::max(most, router->longest_layer());
        return most;
      };
      world.run(seconds(6));
      calm = std::max(calm, watch(seconds(3)));
      Worker& lost = *world.workers()[seed % 4];
      stops ? lost.stop() : lost.kill();
      longest = std::max(longest, watch(seconds(6)));
      finish(world);
      if (!expect_kept(world, seed)) return;
    }
    const auto ms = [](Duration time) {
      return std::chrono::duration<double, std::milli>(time).count();
    };
    std::printf("longest layer: %.1f ms, after a worker %s %.1f ms\n", ms(calm),
                stops ? "stopped" : "was killed", ms(longest));
    EXPECT_LT(longest - calm, milliseconds(50));
  }
}

}  // namespace
}  // namespace conclave::sim
