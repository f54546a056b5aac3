#include "wanted_book.hpp"

#include <gmock/gmock.h>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using test::version_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

wire::Deployment deployment(std::string name, std::vector<std::uint32_t> versions) {
  wire::Deployment deployment;
  deployment.name = std::move(name);
  for (const std::uint32_t version : versions) {
    deployment.splits.push_back({"m:" + std::to_string(version), version_of(version), 1});
  }
  return deployment;
}

TEST(WantedBookTest, AsksForEachVersionOnceAndTheSettingFirst) {
  WantedBook book("m@production");
  EXPECT_THAT(book.references(), ElementsAre("m@production"));
  wire::DeploymentList list{.revision = 7};
  list.deployments = {deployment("chat", {2, 3}), deployment("other", {3})};
  list.deployments[1].shadow = version_of(4);  // of no request
  list.deployments[0].splits.push_back({"m@gone", {}, 1});

  book.learn(list);

  EXPECT_THAT(book.references(), ElementsAre("m@production", "m:2", "m:3"));
  EXPECT_EQ(book.left_out(), "");
  EXPECT_EQ(book.revision(), 7u);
  book.learn({.revision = 7, .unchanged = true});
  EXPECT_THAT(book.references(), testing::SizeIs(3));
}

TEST(WantedBookTest, SaysWhatIsTooMany) {
  WantedBook book("");
  EXPECT_THAT(book.references(), IsEmpty());
  book.learn({.revision = 1, .deployments = {deployment("chat", {1, 2, 3, 4, 5})}});

  EXPECT_THAT(book.references(), ElementsAre("m:1", "m:2", "m:3", "m:4"));
  EXPECT_THAT(book.left_out(), HasSubstr("m:5 is not served"));
}

TEST(WantedBookTest, TakesRulesOfAllThatNameAVersion) {
  WantedBook book("");
  wire::Deployment a = deployment("a", {1});
  a.replica_floor = 2;
  a.policy = wire::DegradedPolicy::kFail;
  a.pins = {{.worker_group = "gpu"}};
  wire::Deployment b = deployment("b", {1, 2});
  b.replica_floor = 3;
  b.pins = {{.worker_group = "cpu", .first_layer = 1, .last_layer = 2, .first_expert = 7}};
  book.learn({.revision = 1, .deployments = {a, b}});

  WantedModel one = test::wanted_of(test::record_of(1, 4, 8));
  book.rule(one);
  EXPECT_EQ(one.replicas, 3u);
  EXPECT_EQ(one.policy, wire::DegradedPolicy::kFail);
  ASSERT_EQ(one.pins.size(), 3u);
  EXPECT_EQ(one.pins[0].layer, placement::Pin::kAll);
  EXPECT_EQ(one.pins[0].group, "gpu");
  EXPECT_EQ(one.pins[2].layer, 2u);
  EXPECT_EQ(one.pins[2].expert, 7u);

  WantedModel three = test::wanted_of(test::record_of(3, 4, 8));
  book.rule(three);
  EXPECT_EQ(three.replicas, 0u);
  EXPECT_FALSE(three.policy);
}

}  // namespace
}  // namespace conclave::scheduler
