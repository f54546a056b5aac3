#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

#include "conclave/placement/planner.hpp"

namespace conclave::placement {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using wire::ExpertBits;

constexpr std::uint64_t kExpertBytes = 1000;

PlanWorker worker(const std::string& name, std::uint64_t room = 1'000'000) {
  PlanWorker made;
  made.name = name;
  made.memory_bytes = room * kExpertBytes;
  return made;
}

PlanRequest request(std::uint32_t layers, std::uint32_t experts, std::size_t workers,
                    std::uint32_t replicas = 1) {
  PlanRequest made;
  made.shape = {"m", layers + 1, 1, experts, kExpertBytes};
  made.replicas = replicas;
  for (std::size_t i = 0; i < workers; ++i) made.workers.push_back(worker("w" + std::to_string(i)));
  return made;
}

Plan plan(const PlanRequest& request) { return SpreadPlanner().plan(request); }

// The request after its plan has come true.
void settle(PlanRequest& request, const Plan& plan) {
  for (std::size_t i = 0; i < request.workers.size(); ++i) {
    request.workers[i].resident = plan.targets[i];
    request.workers[i].assigned = plan.targets[i];
  }
}

std::uint32_t count_in_layer(const ExpertBits& bits, std::uint32_t layer) {
  std::uint32_t count = 0;
  for (std::uint32_t expert = 0; expert < bits.experts(); ++expert) {
    count += bits.test(layer, expert) ? 1u : 0u;
  }
  return count;
}

// What every plan promises, whatever was asked.
void expect_sound(const PlanRequest& request, const Plan& plan) {
  ASSERT_EQ(plan.targets.size(), request.workers.size());
  std::uint64_t room = 0;
  std::size_t able = 0;
  for (std::size_t i = 0; i < plan.targets.size(); ++i) {
    const std::uint64_t own =
        request.workers[i].leaving ? 0 : room_of(request.workers[i], request.shape);
    EXPECT_LE(plan.targets[i].count(), own);
    EXPECT_EQ(count_in_layer(plan.targets[i], 0), 0u) << "layer 0 has no experts";
    room += own;
    able += own > 0 ? 1u : 0u;
  }
  std::uint32_t least = UINT32_MAX;
  for (std::uint32_t layer = 1; layer < request.shape.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < request.shape.experts; ++expert) {
      std::uint32_t copies = 0;
      for (const ExpertBits& target : plan.targets) copies += target.test(layer, expert) ? 1u : 0u;
      EXPECT_LE(copies, request.replicas);
      least = std::min(least, copies);
    }
  }
  EXPECT_EQ(plan.replicas, least);
  if (request.rebalance) {
    const std::uint64_t total = request.shape.experts_total();
    const std::uint64_t wanted = std::min<std::uint64_t>(request.replicas, able);
    EXPECT_EQ(least, total == 0 ? 0 : std::min(wanted, room / total));
  }
  EXPECT_EQ(plan.reason.empty(), plan.replicas == request.replicas) << plan.reason;
}

void expect_balanced(const PlanRequest& request, const Plan& plan) {
  std::size_t least = SIZE_MAX;
  std::size_t most = 0;
  for (const ExpertBits& target : plan.targets) {
    least = std::min(least, target.count());
    most = std::max(most, target.count());
  }
  EXPECT_LE(most - least, 1u);
  for (std::uint32_t layer = 1; layer < request.shape.layers; ++layer) {
    std::uint32_t low = UINT32_MAX;
    std::uint32_t high = 0;
    for (const ExpertBits& target : plan.targets) {
      low = std::min(low, count_in_layer(target, layer));
      high = std::max(high, count_in_layer(target, layer));
    }
    EXPECT_LE(high - low, 1u) << "layer " << layer;
  }
}

TEST(SpreadPlannerTest, BalancesWorkersInEveryLayer) {
  for (const std::uint32_t replicas : {1u, 2u, 3u}) {
    for (const std::size_t workers : {3u, 4u, 5u, 7u}) {
      const PlanRequest asked = request(6, 8, workers, replicas);
      const Plan made = plan(asked);
      expect_sound(asked, made);
      expect_balanced(asked, made);
      EXPECT_EQ(made.replicas, replicas);
      EXPECT_EQ(made.moves, 48u * replicas);
    }
  }
}

TEST(SpreadPlannerTest, OneWorkerGetsEverythingOnce) {
  const PlanRequest asked = request(4, 8, 1, 2);
  const Plan made = plan(asked);
  expect_sound(asked, made);
  EXPECT_EQ(made.targets[0].count(), 32u);
  EXPECT_EQ(made.replicas, 1u);
  EXPECT_THAT(made.reason, HasSubstr("wanted 2 times"));
}

TEST(SpreadPlannerTest, AgainMovesNothing) {
  for (std::uint32_t replicas = 1; replicas <= 3; ++replicas) {
    for (std::size_t workers = 3; workers < 9; ++workers) {
      PlanRequest asked = request(5, 7, workers, replicas);
      asked.workers[0].slots = 4;
      const Plan made = plan(asked);
      settle(asked, made);

      const Plan again = plan(asked);

      EXPECT_EQ(again.targets, made.targets);
      EXPECT_EQ(again.moves, 0u);
    }
  }
}

// Of `moves`, those to workers other than the last.
std::size_t moves_to_others(const PlanRequest& request, const Plan& plan) {
  std::size_t moves = 0;
  for (std::size_t i = 0; i + 1 < request.workers.size(); ++i) {
    for (std::uint32_t layer = 0; layer < request.shape.layers; ++layer) {
      for (std::uint32_t expert = 0; expert < request.shape.experts; ++expert) {
        moves +=
            plan.targets[i].test(layer, expert) && !request.workers[i].resident.test(layer, expert)
                ? 1u
                : 0u;
      }
    }
  }
  return moves;
}

TEST(SpreadPlannerTest, AWorkerThatJoinsTakesItsShareAndNothingElseMoves) {
  for (std::uint32_t replicas = 1; replicas <= 2; ++replicas) {
    PlanRequest asked = request(12, 16, 2, replicas);
    settle(asked, plan(asked));
    for (std::size_t workers = 3; workers <= 10; ++workers) {
      asked.workers.push_back(worker("joins"));

      const Plan made = plan(asked);

      expect_balanced(asked, made);
      const std::size_t copies = 12 * 16 * replicas;
      EXPECT_GE(made.targets.back().count(), copies / workers);
      EXPECT_EQ(moves_to_others(asked, made), 0u) << workers << " workers";
      settle(asked, made);
    }
  }
}

TEST(SpreadPlannerTest, WhatALostWorkerHeldIsSharedOutAndHardlyAnythingElseMoves) {
  for (std::uint32_t replicas = 1; replicas <= 2; ++replicas) {
    PlanRequest asked = request(12, 16, 10, replicas);
    settle(asked, plan(asked));
    while (asked.workers.size() > 3) {
      const std::size_t lost = asked.workers.front().resident.count();
      asked.workers.erase(asked.workers.begin());

      const Plan made = plan(asked);

      expect_balanced(asked, made);
      // With replicas a copy sometimes has to give way: its place is the only one left for another.
      EXPECT_GE(made.moves, lost);
      EXPECT_LE(made.moves, lost + (replicas == 1 ? 0 : lost / 8));
      settle(asked, made);
    }
  }
}

TEST(SpreadPlannerTest, ALeavingWorkerGetsNothing) {
  PlanRequest asked = request(4, 8, 3);
  settle(asked, plan(asked));
  asked.workers[1].leaving = true;

  const Plan made = plan(asked);

  expect_sound(asked, made);
  EXPECT_EQ(made.targets[1].count(), 0u);
  EXPECT_EQ(made.replicas, 1u);
  EXPECT_EQ(made.moves, asked.workers[1].resident.count());
}

TEST(SpreadPlannerTest, UnequalWorkersGetWhatTheyHaveRoomFor) {
  PlanRequest asked = request(4, 8, 3);
  asked.workers[0].slots = 3;
  asked.workers[1].memory_bytes = 5 * kExpertBytes + kExpertBytes / 2;

  const Plan made = plan(asked);

  expect_sound(asked, made);
  EXPECT_EQ(made.targets[0].count(), 3u);
  EXPECT_EQ(made.targets[1].count(), 5u);
  EXPECT_EQ(made.targets[2].count(), 24u);
}

TEST(SpreadPlannerTest, ExplainsWhatDoesNotFitAndPlacesTheRest) {
  PlanRequest asked = request(4, 8, 3);
  asked.workers[0].slots = 3;
  asked.workers[1].memory_bytes = 5 * kExpertBytes;
  asked.workers[2].memory_bytes = kExpertBytes - 1;

  const Plan made = plan(asked);

  expect_sound(asked, made);
  EXPECT_EQ(made.replicas, 0u);
  EXPECT_EQ(made.targets[0].count() + made.targets[1].count(), 8u);
  EXPECT_EQ(made.reason,
            "m has 32 experts of 1000 B (31.2 KiB); 2 workers have room for 8: w0 3 (slots), "
            "w1 5 (4.9 KiB): 24 too few");
}

TEST(SpreadPlannerTest, WithRoomForSomeSecondCopiesMakesThem) {
  PlanRequest asked = request(4, 8, 3, 2);
  for (PlanWorker& w : asked.workers) w.slots = 15;

  const Plan made = plan(asked);

  expect_sound(asked, made);
  EXPECT_EQ(made.replicas, 1u);
  EXPECT_EQ(std::accumulate(made.targets.begin(), made.targets.end(), std::size_t{0},
                            [](std::size_t sum, const auto& t) { return sum + t.count(); }),
            45u);
  EXPECT_THAT(made.reason, HasSubstr("some experts have only 1 copy"));
}

TEST(SpreadPlannerTest, WithoutWorkersThereIsAnEmptyPlan) {
  const PlanRequest asked = request(4, 8, 0);
  const Plan made = plan(asked);
  EXPECT_THAT(made.targets, IsEmpty());
  EXPECT_EQ(made.replicas, 0u);
}

TEST(SpreadPlannerTest, PrefersWhatIsLoadedToWhatWasOnlyAssigned) {
  PlanRequest asked = request(1, 4, 2);
  for (PlanWorker& w : asked.workers) {
    w.resident = ExpertBits(2, 4);
    w.assigned = ExpertBits(2, 4);
  }
  for (std::uint32_t expert = 0; expert < 4; ++expert) asked.workers[0].assigned.set(1, expert);
  asked.workers[1].resident.set(1, 2);
  asked.workers[1].resident.set(1, 3);

  const Plan made = plan(asked);

  EXPECT_TRUE(made.targets[1].test(1, 2));
  EXPECT_TRUE(made.targets[1].test(1, 3));
  EXPECT_EQ(made.moves, 0u);
}

TEST(SpreadPlannerTest, WithoutRebalancingOnlyWhatIsMissingIsPlaced) {
  PlanRequest asked = request(2, 4, 3);
  for (PlanWorker& w : asked.workers) w.resident = ExpertBits(3, 4);
  for (std::uint32_t expert = 0; expert < 4; ++expert) asked.workers[0].resident.set(1, expert);
  asked.workers[1].resident.set(2, 0);
  asked.workers[0].slots = 4;
  asked.rebalance = false;

  const Plan made = plan(asked);

  expect_sound(asked, made);
  EXPECT_EQ(made.replicas, 1u);
  EXPECT_EQ(made.moves, 3u);
  EXPECT_EQ(made.targets[0], asked.workers[0].resident);
  EXPECT_TRUE(made.targets[1].test(2, 0));
}

// Workers of random sizes come, go and leave for good, with random remains of earlier plans.
TEST(SpreadPlannerTest, KeepsItsPromisesForRandomFleets) {
  std::mt19937 random(7);
  const auto upto = [&random](std::uint32_t most) {
    return static_cast<std::uint32_t>(random() % (most + 1));
  };
  for (int round = 0; round < 1500; ++round) {
    PlanRequest asked = request(1 + upto(3), 1 + upto(7), 0, 1 + upto(3));
    const auto workers = 1 + upto(7);
    for (std::uint32_t i = 0; i < workers; ++i) {
      PlanWorker made = worker("w" + std::to_string(i), upto(30));
      made.slots = upto(2) == 0 ? 1 + upto(20) : 0;
      made.leaving = upto(5) == 0;
      made.resident = ExpertBits(asked.shape.layers, asked.shape.experts);
      made.assigned = made.resident;
      const std::uint32_t density = upto(3);
      for (std::uint32_t layer = 1; layer < asked.shape.layers; ++layer) {
        for (std::uint32_t expert = 0; expert < asked.shape.experts; ++expert) {
          if (upto(3) < density) made.resident.set(layer, expert);
          if (upto(3) < density) made.assigned.set(layer, expert);
        }
      }
      asked.workers.push_back(std::move(made));
    }
    asked.rebalance = upto(3) != 0;

    const Plan made = plan(asked);

    expect_sound(asked, made);
    if (HasFailure()) {
      ADD_FAILURE() << "round " << round;
      return;
    }
  }
}

}  // namespace
}  // namespace conclave::placement
