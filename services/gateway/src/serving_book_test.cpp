#include "serving_book.hpp"

#include <gmock/gmock.h>

#include <set>

namespace conclave::gateway {
namespace {

using testing::ElementsAre;

wire::ModelVersion version(std::uint32_t number, const std::string& name = "m") {
  return {name, number, "/m", std::string(64, static_cast<char>('a' + number))};
}

wire::Fleet fleet(const std::vector<wire::ModelVersion>& versions) {
  wire::Fleet fleet;
  for (const auto& model : versions) fleet.models.push_back({.model = model});
  return fleet;
}

class ServingBookTest : public testing::Test {
 protected:
  ServingBookTest() { book_.learn(fleet({version(1), version(2)}), 5); }

  void deploy(std::vector<wire::DeploymentSplit> splits,
              wire::Stickiness sticky = wire::Stickiness::kNone) {
    wire::Deployment chat;
    chat.name = "chat";
    chat.splits = std::move(splits);
    chat.sticky = sticky;
    book_.learn({.revision = ++revision_, .deployments = {chat}}, 7);
  }

  std::uint32_t choose(const std::string& name, const Requester& who = {}) {
    const auto choice = book_.choose(name, who, [this](const wire::ModelVersion& version) {
      return !unusable_.contains(version.version);
    });
    return choice ? choice->version.version : 0;
  }
  // Of so many requests by nobody, those that each version gets.
  std::map<std::uint32_t, int> share(int requests) {
    std::map<std::uint32_t, int> counts;
    for (int i = 0; i < requests; ++i) {
      ++counts[choose("chat", {.random = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15})];
    }
    return counts;
  }

  ServingBook book_;
  std::set<std::uint32_t> unusable_;
  std::uint64_t revision_ = 0;
};

TEST_F(ServingBookTest, KnowsNamesVersionsAndAliases) {
  wire::Fleet said = fleet({version(1), version(2), version(9, "n")});
  said.models[1].aliases = {"canary"};
  book_.learn(said, 6);

  EXPECT_EQ(choose("m"), 1u);
  EXPECT_EQ(choose(""), 1u);
  EXPECT_EQ(choose("m:2"), 2u);
  EXPECT_EQ(choose("m@canary"), 2u);
  EXPECT_EQ(choose("n"), 9u);
  EXPECT_EQ(choose("m:3"), 0u);
  EXPECT_EQ(choose("m@nothing"), 0u);
  EXPECT_EQ(choose("chat"), 0u);
  EXPECT_THAT(book_.shown(), ElementsAre(ServedModel{"m", "fp_bbbbbbbbbbbb", 5}));
}

TEST_F(ServingBookTest, SharesTrafficByWeight) {
  deploy({{"m:1", version(1), 90}, {"m:2", version(2), 10}});

  const auto counts = share(10'000);

  EXPECT_NEAR(counts.at(1), 9000, 150);
  EXPECT_NEAR(counts.at(2), 1000, 150);
  EXPECT_THAT(book_.shown(), ElementsAre(ServedModel{"chat", "fp_bbbbbbbbbbbb", 7},
                                         ServedModel{"m", "fp_bbbbbbbbbbbb", 5}));
}

TEST_F(ServingBookTest, AUserStaysAndAChangeOfWeightsMovesFew) {
  const auto where = [&] {
    std::vector<std::uint32_t> versions;
    for (int user = 0; user < 2000; ++user) {
      const std::string name = "user-" + std::to_string(user);
      versions.push_back(choose("chat", {.user = name, .random = 17}));
      EXPECT_EQ(choose("chat", {.user = name, .session = "other", .random = 18}), versions.back());
    }
    return versions;
  };
  deploy({{"m:1", version(1), 90}, {"m:2", version(2), 10}}, wire::Stickiness::kUser);
  const auto before = where();
  deploy({{"m:1", version(1), 80}, {"m:2", version(2), 20}}, wire::Stickiness::kUser);
  const auto after = where();

  int moved = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    moved += before[i] != after[i] ? 1 : 0;
    EXPECT_FALSE(before[i] == 2 && after[i] == 1) << "nobody goes against the change";
  }
  EXPECT_NEAR(moved, 200, 60);
}

TEST_F(ServingBookTest, WhatAnAliasMeantAnswersUntilWhatItMeansCan) {
  deploy({{"m@production", version(1), 1}});
  ASSERT_EQ(choose("chat"), 1u);
  unusable_ = {2, 3};
  book_.learn(fleet({version(1), version(3)}), 6);

  deploy({{"m@production", version(3), 1}});
  EXPECT_EQ(choose("chat"), 1u);
  unusable_ = {2};
  EXPECT_EQ(choose("chat"), 3u);
  unusable_ = {2, 3};
  EXPECT_EQ(choose("chat"), 1u) << "a namesake that can";
}

TEST_F(ServingBookTest, AGatewayThatHasJustStartedAsksANamesakeOrAnotherPart) {
  unusable_ = {2};
  deploy({{"m@production", version(2), 1}});
  EXPECT_EQ(choose("chat"), 1u) << "of the same model";
  book_.learn(fleet({version(1, "old"), version(2)}), 6);
  deploy({{"m@production", version(2), 99}, {"old:1", version(1, "old"), 1}});
  EXPECT_EQ(choose("chat"), 1u) << "the other part";
}

TEST_F(ServingBookTest, LeavesWhatIsLeaving) {
  wire::Fleet said = fleet({version(2), version(1)});
  said.models[1].leaving = true;
  book_.learn(said, 6);

  EXPECT_EQ(choose("m"), 2u);
  EXPECT_EQ(choose("m:1"), 0u);
  EXPECT_FALSE(book_.is_gone("m", 1));
  EXPECT_TRUE(book_.is_gone("m", 3));
  book_.learn(wire::Fleet{}, 7);  // a scheduler that has just started
  EXPECT_EQ(choose("m"), 2u);
}

TEST_F(ServingBookTest, CopiesSomeRequestsForTheShadow) {
  wire::Deployment chat;
  chat.name = "chat";
  chat.splits = {{"m:1", version(1), 1}};
  chat.shadow = version(2);
  chat.shadow_percent = 25;
  book_.learn({.revision = 1, .deployments = {chat}}, 7);
  const auto copies = [&] {
    int count = 0;
    for (int i = 0; i < 4000; ++i) {
      const auto choice = book_.choose(
          "chat", {.random = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15},
          [this](const wire::ModelVersion& v) { return !unusable_.contains(v.version); });
      EXPECT_EQ(choice->version.version, 1u);
      count += choice->shadow.version == 2 ? 1 : 0;
    }
    return count;
  };

  EXPECT_NEAR(copies(), 1000, 120);
  unusable_ = {2};
  EXPECT_EQ(copies(), 0);
}

}  // namespace
}  // namespace conclave::gateway
