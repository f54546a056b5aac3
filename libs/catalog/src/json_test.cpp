#include "conclave/catalog/json.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "conclave/catalog/access.hpp"

namespace conclave::catalog {
namespace {

using testing::HasSubstr;

TEST(CatalogJsonTest, ADeploymentIsReadAsItIsWritten) {
  Deployment deployment;
  deployment.name = "chat";
  deployment.split = {{"m@stable", 3}, {"m:2", 1}};
  deployment.sticky = Stickiness::kSession;
  deployment.shadow = "m:3";
  deployment.shadow_percent = 7;
  deployment.pins = {{"cuda", 1, 2, 3, UINT32_MAX}};
  deployment.replica_floor = 2;
  deployment.policy = DegradedPolicy::kFail;
  const auto read = deployment_from_json(to_json(deployment)).value();
  deployment.name.clear();  // is not read
  EXPECT_EQ(read, deployment);
}

TEST(CatalogJsonTest, NamesTheMemberThatIsWrong) {
  const auto message = [](const char* text) {
    const auto read = deployment_from_json(boost::json::parse(text).get_object());
    return read ? std::string("fine") : read.error().message;
  };
  EXPECT_EQ(message(R"({"split":[{"reference":"m","weight":2}]})"), "fine");
  EXPECT_THAT(message(R"({"split":[{"reference":"m"},{"weight":-1}]})"),
              HasSubstr("split[1].weight "));
  EXPECT_THAT(message(R"({"split":[{"weight":1.5}]})"), HasSubstr("split[0].weight "));
  EXPECT_THAT(message(R"({"split":[{"weight":4294967296}]})"), HasSubstr("split[0].weight "));
  EXPECT_THAT(message(R"({"split":{}})"), HasSubstr("split "));
  EXPECT_THAT(message(R"({"split":[1]})"), HasSubstr("split[0] "));
  EXPECT_THAT(message(R"({"policy":"panic"})"), HasSubstr("policy "));
  EXPECT_THAT(message(R"({"sticky":1})"), HasSubstr("sticky "));
  EXPECT_THAT(message(R"({"polciy":"wait"})"), HasSubstr("polciy "));
  EXPECT_THAT(message(R"({"split":[{"name":"m"}]})"), HasSubstr("split[0].name "));
}

TEST(CatalogJsonTest, DaysGoBothWays) {
  EXPECT_EQ(format_day(0), "1970-01-01");
  EXPECT_EQ(format_day(20'254), "2025-06-15");
  for (const std::int32_t day : {0, 59, 11'016, 20'000, 50'000}) {
    EXPECT_EQ(parse_day(format_day(day)).value(), day);
  }
  for (const char* bad : {"", "2025-6-15", "2025-02-29", "2025-13-01", "2025-06-15x", "x025-06-15",
                          "2025/06/15", "----------"}) {
    EXPECT_FALSE(parse_day(bad)) << bad;
  }
  EXPECT_EQ(day_of(86'400'000 - 1), 0);
  EXPECT_EQ(day_of(86'400'000), 1);
}

TEST(CatalogJsonTest, EveryWordIsReadBack) {
  for (const Role role : {Role::kInference, Role::kRead, Role::kAdmin}) {
    EXPECT_EQ(role_of(to_string(role)), role);
  }
  for (const UsageBy by :
       {UsageBy::kTotal, UsageBy::kDay, UsageBy::kModel, UsageBy::kKey, UsageBy::kTenant}) {
    EXPECT_EQ(usage_by_of(to_string(by)), by);
  }
  EXPECT_EQ(role_of("root"), std::nullopt);
}

TEST(SecretTest, IsLongRandomAndNotShown) {
  const std::string secret = make_secret();
  EXPECT_NE(secret, make_secret());
  EXPECT_EQ(secret.size(), kSecretPrefix.size() + 43);
  EXPECT_TRUE(secret.starts_with(kSecretPrefix));
  EXPECT_EQ(secret_prefix(secret), secret.substr(0, kSecretPrefix.size() + 4));
  EXPECT_EQ(secret_prefix("0123456789abcdef"), "0123");
  EXPECT_EQ(key_id(secret_hash("abc")), "key-ba7816bf8f01cfea");
}

}  // namespace
}  // namespace conclave::catalog
