#include "router_directory.hpp"

#include <gmock/gmock.h>

namespace conclave::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr RouterId kA{1};
constexpr RouterId kB{2};

wire::NodeStatus router(std::string name, std::string model = "m",
                        wire::NodeState state = wire::NodeState::kReady) {
  wire::NodeStatus status;
  status.report.node = name;
  status.report.role = wire::NodeRole::kRouter;
  status.report.state = state;
  status.report.address = "tcp://" + name;
  status.report.models = {{.model = {std::move(model), 1, {}, {}}}};
  return status;
}

wire::Fleet fleet_of(std::vector<wire::NodeStatus> nodes) {
  wire::Fleet fleet;
  fleet.nodes = std::move(nodes);
  return fleet;
}

/// Routers a and b of model m, connected and up.
class RouterDirectoryTest : public ::testing::Test {
 protected:
  RouterDirectoryTest() {
    directory_.update(fleet_of({router("a"), router("b")}));
    directory_.connected("tcp://a", kA);
    directory_.connected("tcp://b", kB);
    directory_.link_up(kA);
    directory_.link_up(kB);
  }

  std::optional<RouterId> choose(std::string_view model, std::span<const RouterId> tried = {}) {
    return directory_.choose({.model = model, .tried = tried});
  }

  RouterDirectory directory_;
};

TEST_F(RouterDirectoryTest, ConnectsToEachRouterOnce) {
  RouterDirectory directory;
  wire::NodeStatus worker = router("w");
  worker.report.role = wire::NodeRole::kExpertWorker;
  const wire::Fleet fleet = fleet_of({router("a"), worker, router("b")});

  EXPECT_THAT(directory.update(fleet).connect, ElementsAre("tcp://a", "tcp://b"));
  EXPECT_THAT(directory.update(fleet).connect, IsEmpty());
}

TEST_F(RouterDirectoryTest, ChoosesTheOneWithTheLeastSequences) {
  directory_.sequences_opened(kA, 1);
  EXPECT_EQ(choose("m"), kB);
  directory_.sequences_opened(kB, 1);
  directory_.sequences_opened(kB, 1);
  EXPECT_EQ(choose("m"), kA);
  directory_.sequences_closed(kB, 1);
  directory_.sequences_closed(kB, 1);
  EXPECT_EQ(choose("m"), kB);
}

TEST_F(RouterDirectoryTest, EqualsTakeTurns) {
  const auto first = choose("m");
  const auto second = choose("m");
  EXPECT_NE(first, second);
  EXPECT_EQ(choose("m"), first);
}

TEST_F(RouterDirectoryTest, LeavesOutThoseThatWereTried) {
  const std::vector<RouterId> tried{kA};
  EXPECT_EQ(choose("m", tried), kB);
  const std::vector<RouterId> both{kA, kB};
  EXPECT_EQ(choose("m", both), std::nullopt);
}

TEST_F(RouterDirectoryTest, ChoosesNoneThatIsDownDrainingOrOfAnotherModel) {
  EXPECT_EQ(choose("other"), std::nullopt);
  EXPECT_EQ(directory_.link_down(kA), std::nullopt);
  EXPECT_EQ(choose("m"), kB);
  directory_.update(fleet_of({router("a"), router("b", "m", wire::NodeState::kDraining)}));
  EXPECT_EQ(choose("m"), std::nullopt);
  EXPECT_EQ(directory_.usable("m"), 0u);
  directory_.link_up(kA);
  EXPECT_EQ(choose("m"), kA);
}

TEST_F(RouterDirectoryTest, AKnownBeginningIsWorthSomeSequences) {
  const std::vector<KnownPrefix> known{{kA, 3 * kSequenceTokens}};
  const Wanted wanted{.model = "m", .prompt_tokens = 4 * kSequenceTokens, .known = known};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(directory_.choose(wanted), kA);
    directory_.sequences_opened(kA, 1);
  }
  EXPECT_EQ(directory_.choose(wanted), kB);
}

TEST_F(RouterDirectoryTest, CountsWhatRoutersHaveFromOthers) {
  directory_.sequences_opened(kA, 2);
  wire::NodeStatus a = router("a");
  a.report.load.running = 2;  // ours
  wire::NodeStatus b = router("b");
  b.report.load.running = 2;
  b.report.load.waiting = 1;
  directory_.update(fleet_of({a, b}));
  EXPECT_EQ(choose("m"), kA);
  directory_.sequences_opened(kA, 2);
  EXPECT_EQ(choose("m"), kB);
}

TEST_F(RouterDirectoryTest, AvoidsACacheThatIsFull) {
  directory_.sequences_opened(kA, 10);
  wire::NodeStatus b = router("b");
  b.report.load.kv_tokens_used = 950;
  b.report.load.kv_tokens_max = 1000;
  directory_.update(fleet_of({router("a"), b}));
  EXPECT_EQ(directory_.choose({.model = "m", .prompt_tokens = 50}), kB);
  EXPECT_EQ(directory_.choose({.model = "m", .prompt_tokens = 51}), kA);
}

TEST_F(RouterDirectoryTest, ASessionStaysWhereItIsAmongEquals) {
  std::size_t with_a = 0;
  for (std::uint64_t session = 1; session <= 64; ++session) {
    const auto first = directory_.choose({.model = "m", .session = session});
    EXPECT_EQ(directory_.choose({.model = "m", .session = session}), first);
    if (first == kA) ++with_a;
  }
  EXPECT_GT(with_a, 10u);
  EXPECT_LT(with_a, 54u);
  const auto home = directory_.choose({.model = "m", .session = 7});
  directory_.sequences_opened(*home, 1);
  EXPECT_NE(directory_.choose({.model = "m", .session = 7}), home) << "it only decides ties";
}

TEST_F(RouterDirectoryTest, AVersionMayBeWanted) {
  EXPECT_TRUE(directory_.choose({.model = "m", .version = 1}));
  EXPECT_FALSE(directory_.choose({.model = "m", .version = 2}));
}

TEST_F(RouterDirectoryTest, ARouterThatIsNoLongerListedServesWhileItsLinkIsUp) {
  EXPECT_THAT(directory_.update(fleet_of({})).disconnect, IsEmpty());
  EXPECT_EQ(directory_.usable("m"), 2u);

  EXPECT_EQ(directory_.link_down(kA), kA);  // and is forgotten with it
  EXPECT_EQ(directory_.usable("m"), 1u);
  EXPECT_THAT(directory_.update(fleet_of({router("a")})).connect, ElementsAre("tcp://a"));
}

TEST_F(RouterDirectoryTest, ARouterThatIsNeitherListedNorUpIsForgotten) {
  directory_.link_down(kA);
  EXPECT_THAT(directory_.update(fleet_of({router("b")})).disconnect, ElementsAre(kA));
}

TEST_F(RouterDirectoryTest, SaysWhyNoneCanBeChosen) {
  RouterDirectory directory;
  EXPECT_EQ(directory.why_not_usable("m"), "no router is in the fleet");
  wire::NodeStatus starting = router("a", "m", wire::NodeState::kStarting);
  starting.report.reason = "loading m";
  directory.update(fleet_of({starting}));
  EXPECT_EQ(directory.why_not_usable("m"), "a is not ready: loading m");
  directory.update(fleet_of({router("a")}));
  EXPECT_THAT(directory.why_not_usable("m"), HasSubstr("no connection to a"));
  directory.connected("tcp://a", kA);
  directory.link_up(kA);
  EXPECT_THAT(directory.why_not_usable("other"), HasSubstr("does not serve it"));
}

}  // namespace
}  // namespace conclave::gateway
