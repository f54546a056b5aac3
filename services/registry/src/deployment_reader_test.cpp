#include "deployment_reader.hpp"

#include <gmock/gmock.h>

#include "conclave/catalog/open.hpp"
#include "conclave/testkit/test_postgres.hpp"
#include "testing_scan.hpp"

namespace conclave::registry {
namespace {

struct DeploymentReaderTest : ::testing::Test {
  void SetUp() override {
    for (const char digit : {'a', 'b'}) {
      ASSERT_TRUE(
          catalog->add_version(testing::scan_of(digit), {.uri = "/m.gguf", .aliases = {}}, {}));
    }
    catalog::Deployment chat;
    chat.name = "chat";
    ASSERT_TRUE(catalog->move_alias({"m", "stable", 1, {}}, {}));
    chat.split = {{"m@stable", 90}, {"m:2", 10}};
    chat.sticky = catalog::Stickiness::kUser;
    chat.shadow = "m:2";
    chat.shadow_percent = 5;
    chat.pins = {{.worker_group = "gpu", .last_layer = 3}};
    chat.replica_floor = 3;
    chat.policy = catalog::DegradedPolicy::kFail;
    ASSERT_TRUE(catalog->put_deployment(chat, {}));
  }

  testkit::TestPostgres server;
  std::unique_ptr<catalog::Catalog> catalog =
      catalog::open_catalog(server.url(), {.attempts_max = 2}).value();
  int away = 0;
  DeploymentReader reader{*catalog, [this](const base::Error&) { ++away; }};
};

TEST_F(DeploymentReaderTest, SaysWhatReferencesMeanNow) {
  const auto list = reader.deployments({});
  ASSERT_TRUE(list) << list.error().to_string();
  ASSERT_EQ(list->deployments.size(), 1u);
  const wire::Deployment& chat = list->deployments[0];
  EXPECT_EQ(chat.splits[0].reference, "m@stable");
  EXPECT_EQ(chat.splits[0].model.version, 1u);
  EXPECT_EQ(chat.splits[0].model.sha256, std::string(64, 'a'));
  EXPECT_EQ(chat.splits[0].weight, 90u);
  EXPECT_EQ(chat.splits[1].model.version, 2u);
  EXPECT_EQ(chat.sticky, wire::Stickiness::kUser);
  EXPECT_EQ(chat.shadow.version, 2u);
  EXPECT_EQ(chat.shadow_percent, 5u);
  EXPECT_EQ(chat.pins.at(0).worker_group, "gpu");
  EXPECT_EQ(chat.pins.at(0).last_layer, 3u);
  EXPECT_EQ(chat.replica_floor, 3u);
  EXPECT_EQ(chat.policy, wire::DegradedPolicy::kFail);

  const auto again = reader.deployments({list->revision});
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->unchanged);
  EXPECT_TRUE(again->deployments.empty());

  ASSERT_TRUE(catalog->move_alias({"m", "stable", 2, {}}, {}));
  const auto moved = reader.deployments({list->revision});
  ASSERT_TRUE(moved);
  EXPECT_FALSE(moved->unchanged);
  EXPECT_GT(moved->revision, list->revision);
  EXPECT_EQ(moved->deployments.at(0).splits[0].model.version, 2u);
}

TEST_F(DeploymentReaderTest, SaysTheLastListWhileTheDatabaseIsAway) {
  const auto list = reader.deployments({});
  ASSERT_TRUE(list);
  server.stop();

  const auto stale = reader.deployments({});
  ASSERT_TRUE(stale) << stale.error().to_string();
  EXPECT_TRUE(stale->stale);
  EXPECT_EQ(stale->deployments, list->deployments);
  EXPECT_EQ(away, 1);
  DeploymentReader other{*catalog, [](const base::Error&) {}};
  EXPECT_EQ(other.deployments({}).error().code, base::ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::registry
