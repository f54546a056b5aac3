#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "conclave/placement/planner.hpp"
#include "testing_eplb.hpp"

namespace conclave::placement {
namespace {

using testing::HasSubstr;
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

Plan plan(const PlanRequest& request) { return EplbFtPlanner().plan(request); }

void settle(PlanRequest& request, const Plan& plan) {
  for (std::size_t i = 0; i < request.workers.size(); ++i) {
    request.workers[i].resident = plan.targets[i];
    request.workers[i].assigned = plan.targets[i];
  }
}

// Zipf(skew) over a random order of the experts, another one in every layer; layer 0 has none.
std::vector<double> zipf(const ModelShape& shape, double skew, std::mt19937& random) {
  std::vector<double> loads(std::size_t{shape.layers} * shape.experts);
  std::vector<std::uint32_t> order(shape.experts);
  std::iota(order.begin(), order.end(), 0u);
  for (std::uint32_t layer = shape.dense_layers; layer < shape.layers; ++layer) {
    std::shuffle(order.begin(), order.end(), random);
    for (std::uint32_t rank = 0; rank < shape.experts; ++rank) {
      loads[std::size_t{layer} * shape.experts + order[rank]] = 1e6 / std::pow(rank + 1, skew);
    }
  }
  return loads;
}

std::vector<std::size_t> holders(const Plan& plan, std::uint32_t layer, std::uint32_t expert) {
  std::vector<std::size_t> holders;
  for (std::size_t w = 0; w < plan.targets.size(); ++w) {
    if (plan.targets[w].test(layer, expert)) holders.push_back(w);
  }
  return holders;
}

// What every plan promises: room, floor and cap. That no copy is twice on a worker is in the type.
void expect_sound(const PlanRequest& asked, const Plan& made) {
  ASSERT_EQ(made.targets.size(), asked.workers.size());
  std::uint64_t room = 0;
  std::uint64_t copies = 0;
  std::size_t able = 0;
  for (std::size_t w = 0; w < made.targets.size(); ++w) {
    const std::uint64_t own = asked.workers[w].leaving ? 0 : room_of(asked.workers[w], asked.shape);
    EXPECT_LE(made.targets[w].count(), own);
    copies += made.targets[w].count();
    room += own;
    able += own > 0 ? 1u : 0u;
  }
  std::uint32_t least = UINT32_MAX;
  const std::uint32_t cap = asked.replicas_max == 0 ? static_cast<std::uint32_t>(able)
                                                    : std::max(asked.replicas_max, asked.replicas);
  for (std::uint32_t layer = 0; layer < asked.shape.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < asked.shape.experts; ++expert) {
      const auto count = static_cast<std::uint32_t>(holders(made, layer, expert).size());
      if (layer < asked.shape.dense_layers) {
        EXPECT_EQ(count, 0u);
        continue;
      }
      EXPECT_LE(count, cap);
      least = std::min(least, count);
    }
  }
  EXPECT_EQ(made.replicas, least);
  EXPECT_EQ(made.reason.empty(), made.replicas >= asked.replicas) << made.reason;
  EXPECT_FALSE(made.explanation.empty());
  const std::uint64_t total = asked.shape.experts_total();
  if (asked.rebalance) {
    const std::uint64_t floor = std::min<std::uint64_t>(asked.replicas, able);
    EXPECT_GE(least, std::min(floor, room / total));
    const auto spare = static_cast<std::uint64_t>(asked.spare * static_cast<double>(total) + 1e-6);
    EXPECT_LE(copies, total * floor + spare);
  }
}

TEST(EplbFtPlannerTest, WithoutLoadsSharesOutTheFloorEvenly) {
  for (const std::uint32_t replicas : {1u, 2u, 3u}) {
    for (const std::size_t workers : {3u, 4u, 5u, 7u}) {
      const PlanRequest asked = request(6, 8, workers, replicas);
      const Plan made = plan(asked);
      expect_sound(asked, made);
      EXPECT_EQ(made.replicas, replicas);
      EXPECT_EQ(made.moves, 48u * replicas);
      std::size_t least = SIZE_MAX;
      std::size_t most = 0;
      for (const ExpertBits& target : made.targets) {
        least = std::min(least, target.count());
        most = std::max(most, target.count());
      }
      EXPECT_LE(most - least, 1u) << workers << " workers, " << replicas << " replicas";
    }
  }
}

// The promise of issue 6: floor 1, equal workers, as many slots.
TEST(EplbFtPlannerTest, IsNeverWorseThanEplb) {
  std::mt19937 random(5);
  double ours = 0;
  double theirs = 0;
  int rounds = 0;
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t workers = 2 + static_cast<std::uint32_t>(random() % 15);
    const std::uint32_t each = 1 + static_cast<std::uint32_t>(random() % 9);
    const std::uint32_t slots = workers * each;
    const std::uint32_t experts = slots - static_cast<std::uint32_t>(random() % (slots / 2 + 1));
    PlanRequest asked = request(1, experts, workers);
    for (PlanWorker& w : asked.workers) w.slots = each;
    asked.spare = static_cast<double>(slots - experts) / experts;
    asked.loads = zipf(asked.shape, 0.3 + static_cast<double>(random() % 100) / 80, random);

    const Plan made = plan(asked);

    expect_sound(asked, made);
    const std::vector<double> load(asked.loads.begin() + experts, asked.loads.end());
    const double eplb =
        testing_eplb::max_over_mean(testing_eplb::place(load, workers, slots), load);
    EXPECT_LE(made.after.mean, eplb * (1 + 1e-9))
        << "round " << round << ": " << experts << " experts, " << slots << " slots, " << workers
        << " workers";
    ours += made.after.mean;
    theirs += eplb;
    ++rounds;
  }
  std::printf("max/mean over %d random loads: %.4f, EPLB %.4f\n", rounds, ours / rounds,
              theirs / rounds);
}

TEST(EplbFtPlannerTest, AgainMovesNothing) {
  std::mt19937 random(11);
  const auto upto = [&random](std::uint32_t most) {
    return static_cast<std::uint32_t>(random() % (most + 1));
  };
  for (int round = 0; round < 60; ++round) {
    PlanRequest asked = request(1 + upto(4), 4 + upto(12), 2 + upto(6), 1 + upto(2));
    if (round % 3 != 0) asked.loads = zipf(asked.shape, 1, random);
    asked.workers[0].slots = round % 2 == 0 ? 9 : 0;
    asked.workers[1].speed = round % 4 == 0 ? 2.5 : 1;
    settle(asked, plan(asked));
    const Plan again = plan(asked);
    EXPECT_EQ(again.moves, 0u) << "round " << round;
    EXPECT_EQ(again.drops, 0u) << "round " << round;
    EXPECT_THAT(again.explanation, HasSubstr("keeps everything"));
  }
}

TEST(EplbFtPlannerTest, ALostWorkersExpertsAreBackAtTheFloorAndLittleElseMoves) {
  std::mt19937 random(3);
  PlanRequest asked = request(8, 16, 6, 2);
  asked.loads = zipf(asked.shape, 0.8, random);
  settle(asked, plan(asked));
  while (asked.workers.size() > 3) {
    const std::size_t lost = asked.workers.front().resident.count();
    asked.workers.erase(asked.workers.begin());
    const Plan made = plan(asked);
    expect_sound(asked, made);
    EXPECT_EQ(made.replicas, 2u);
    EXPECT_LE(made.moves, lost + lost / 2);
    EXPECT_LE(made.after.mean, made.before.mean + 0.5);
    settle(asked, made);
  }
}

TEST(EplbFtPlannerTest, AWorkerThatJoinsTakesItsShare) {
  PlanRequest asked = request(6, 16, 3, 2);
  settle(asked, plan(asked));
  asked.workers.push_back(worker("joins"));
  const Plan made = plan(asked);
  expect_sound(asked, made);
  EXPECT_GE(made.targets.back().count(), 36u);
  EXPECT_LE(made.targets.back().count(), 60u);
  EXPECT_LE(made.moves, 60u);
  EXPECT_LT(made.after.mean, 1.15);
}

TEST(EplbFtPlannerTest, ReplicasAreOnDifferentHostsAndZones) {
  PlanRequest asked = request(4, 12, 8, 2);
  for (std::size_t i = 0; i < 8; ++i) {
    asked.workers[i].host = "h" + std::to_string(i / 2);
    asked.workers[i].zone = i < 4 ? "a" : "b";
  }
  const Plan made = plan(asked);
  expect_sound(asked, made);
  for (std::uint32_t layer = 1; layer <= 4; ++layer) {
    for (std::uint32_t expert = 0; expert < 12; ++expert) {
      std::set<std::string> zones;
      for (const std::size_t w : holders(made, layer, expert)) zones.insert(asked.workers[w].zone);
      EXPECT_EQ(zones.size(), 2u) << "expert " << layer << "/" << expert;
    }
  }
}

// It was planned while the workers' hosts were not known; now they are.
TEST(EplbFtPlannerTest, ReplicasThatTurnOutToShareAHostAreSeparated) {
  PlanRequest asked = request(4, 12, 6, 2);
  settle(asked, plan(asked));
  for (std::size_t i = 0; i < 6; ++i) asked.workers[i].host = "h" + std::to_string(i / 2);
  const Plan made = plan(asked);
  expect_sound(asked, made);
  for (std::uint32_t layer = 1; layer <= 4; ++layer) {
    for (std::uint32_t expert = 0; expert < 12; ++expert) {
      std::set<std::string> hosts;
      for (const std::size_t w : holders(made, layer, expert)) hosts.insert(asked.workers[w].host);
      EXPECT_GE(hosts.size(), 2u) << "expert " << layer << "/" << expert;
    }
  }
}

TEST(EplbFtPlannerTest, NoWorkerIsTheMirrorOfAnother) {
  std::mt19937 random(9);
  for (const std::size_t workers : {4u, 5u, 8u}) {
    PlanRequest asked = request(4, 32, workers, 2);
    asked.loads = zipf(asked.shape, 0.6, random);
    const Plan made = plan(asked);
    expect_sound(asked, made);
    for (std::size_t a = 0; a < workers; ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        std::size_t shared = 0;
        for (std::uint32_t layer = 1; layer <= 4; ++layer) {
          for (std::uint32_t e = 0; e < 32; ++e) {
            shared += made.targets[a].test(layer, e) && made.targets[b].test(layer, e) ? 1u : 0u;
          }
        }
        EXPECT_LE(static_cast<double>(shared), 0.7 * static_cast<double>(made.targets[a].count()));
      }
    }
    // A twin would have to do twice as much: with 4 workers 2 * 3/4 = 1.5 times the mean.
    EXPECT_LE(made.after.after_loss, 1.3) << workers << " workers";
  }
}

TEST(EplbFtPlannerTest, HotExpertsHaveTheSpareCopiesUpToTheCap) {
  PlanRequest asked = request(1, 8, 4);
  asked.spare = 0.5;
  asked.loads.assign(16, 1.0);
  asked.loads[8 + 5] = 10;
  EXPECT_EQ(holders(plan(asked), 1, 5).size(), 4u);
  asked.replicas_max = 2;
  EXPECT_EQ(holders(plan(asked), 1, 5).size(), 2u);
}

TEST(EplbFtPlannerTest, FasterWorkersGetMore) {
  std::mt19937 random(2);
  PlanRequest asked = request(4, 32, 3);
  asked.workers[2].speed = 2;
  asked.loads = zipf(asked.shape, 0.5, random);
  const Plan made = plan(asked);
  expect_sound(asked, made);
  EXPECT_LT(made.after.mean, 1.1);
}

TEST(EplbFtPlannerTest, PinsGoBeforeBalance) {
  PlanRequest asked = request(2, 8, 4, 2);
  asked.workers[0].group = "cuda";
  asked.workers[1].group = "cuda";
  asked.pins.push_back({1, Pin::kAll, Pin::Kind::kOnly, "cuda", {}});
  asked.pins.push_back({2, 3, Pin::Kind::kAlso, "", {"w3"}});
  asked.pins.push_back({2, 4, Pin::Kind::kNever, "", {"w0", "w1"}});
  const Plan made = plan(asked);
  expect_sound(asked, made);
  for (std::uint32_t e = 0; e < 8; ++e) {
    EXPECT_THAT(holders(made, 1, e), testing::ElementsAre(0, 1));
  }
  EXPECT_THAT(holders(made, 2, 3), testing::Contains(3));
  EXPECT_THAT(holders(made, 2, 4), testing::ElementsAre(2, 3));
  settle(asked, made);
  EXPECT_EQ(plan(asked).moves, 0u);
  // A pin on what lies elsewhere moves it.
  asked.pins.push_back({2, 5, Pin::Kind::kOnly, "", {"w1"}});
  EXPECT_THAT(holders(plan(asked), 2, 5), testing::ElementsAre(1));
}

TEST(EplbFtPlannerTest, PinsThatContradictEachOtherAreTold) {
  PlanRequest asked = request(1, 4, 2);
  asked.pins.push_back({1, 2, Pin::Kind::kOnly, "", {"w0"}});
  asked.pins.push_back({1, 2, Pin::Kind::kNever, "", {"w0"}});
  const Plan made = plan(asked);
  EXPECT_EQ(made.replicas, 0u);
  EXPECT_THAT(made.reason, HasSubstr("rules leave some experts without a place"));
}

TEST(EplbFtPlannerTest, ACordonedWorkerKeepsWhatItHasAndGetsNothing) {
  PlanRequest asked = request(4, 8, 3, 1);
  settle(asked, plan(asked));
  asked.workers[1].cordoned = true;
  const ExpertBits had = asked.workers[1].resident;
  asked.workers.erase(asked.workers.begin());
  const Plan made = plan(asked);
  EXPECT_EQ(made.replicas, 1u);
  EXPECT_EQ(made.targets[0], had);
}

TEST(EplbFtPlannerTest, SmallGainsMoveNothingAndAPriceOfZeroMovesThem) {
  std::mt19937 random(4);
  PlanRequest asked = request(4, 32, 4);
  asked.loads = zipf(asked.shape, 0.5, random);
  settle(asked, plan(asked));
  for (double& load : asked.loads) load *= 0.97 + 0.06 * static_cast<double>(random() % 100) / 100;
  asked.move_price = 2;
  EXPECT_EQ(plan(asked).moves, 0u);
  asked.move_price = 0;
  EXPECT_LE(plan(asked).after.mean, plan(asked).before.mean);
}

TEST(EplbFtPlannerTest, WithoutRebalancingWhatIsResidentStays) {
  std::mt19937 random(6);
  PlanRequest asked = request(3, 8, 4, 2);
  settle(asked, plan(asked));
  asked.workers.erase(asked.workers.begin());
  asked.loads = zipf(asked.shape, 1, random);
  asked.rebalance = false;
  const Plan made = plan(asked);
  EXPECT_EQ(made.replicas, 2u);
  for (std::size_t w = 0; w < asked.workers.size(); ++w) {
    for (std::uint32_t layer = 1; layer <= 3; ++layer) {
      for (std::uint32_t e = 0; e < 8; ++e) {
        if (asked.workers[w].resident.test(layer, e)) {
          EXPECT_TRUE(made.targets[w].test(layer, e));
        }
      }
    }
  }
}

TEST(EplbFtPlannerTest, WithoutWorkersThereIsAnEmptyPlan) {
  const Plan made = plan(request(4, 8, 0));
  EXPECT_TRUE(made.targets.empty());
  EXPECT_EQ(made.replicas, 0u);
}

// Workers of random sizes and speeds come, go and leave for good, with remains of earlier plans.
TEST(EplbFtPlannerTest, KeepsItsPromisesForRandomFleets) {
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
      made.speed = upto(1) == 0 ? 1 : 0.25 + upto(8);
      if (upto(1) == 0) made.host = "h" + std::to_string(upto(3));
      if (upto(1) == 0) made.zone = "z" + std::to_string(upto(1));
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
    if (upto(1) == 0) asked.loads = zipf(asked.shape, upto(20) / 10.0, random);

    const Plan made = plan(asked);

    expect_sound(asked, made);
    if (HasFailure()) {
      ADD_FAILURE() << "round " << round << ": " << made.explanation;
      return;
    }
  }
}

}  // namespace
}  // namespace conclave::placement
