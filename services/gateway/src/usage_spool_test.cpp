#include "usage_spool.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace conclave::gateway {
namespace {

namespace fs = std::filesystem;

struct UsageSpoolTest : ::testing::Test {
  const fs::path folder =
      fs::path(::testing::TempDir()) / ("conclave-usage-spool." + std::to_string(::getpid()));
  const fs::path file = folder / "usage.spool";
  UsageSpoolTest() {
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  ~UsageSpoolTest() override { fs::remove_all(folder); }
};

TEST_F(UsageSpoolTest, EachGatewayHasItsOwn) {
  const auto first = UsageSpool::claim(file);
  const auto second = UsageSpool::claim(file);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->file(), file);
  EXPECT_EQ(second->file(), folder / "usage.spool-2");
}

TEST_F(UsageSpoolTest, WhatOneLeftGoesToTheNext) {
  auto first = UsageSpool::claim(file);
  const auto second = UsageSpool::claim(file);
  ASSERT_TRUE(first && second);
  *first = UsageSpool();
  const auto third = UsageSpool::claim(file);
  ASSERT_TRUE(third);
  EXPECT_EQ(third->file(), file);
}

TEST_F(UsageSpoolTest, IsAsGivenWhereNoLockCanBe) {
  const auto none = UsageSpool::claim("");
  const auto nowhere = UsageSpool::claim(folder / "none" / "usage.spool");
  ASSERT_TRUE(none && nowhere);
  EXPECT_TRUE(none->file().empty());
  EXPECT_EQ(nowhere->file(), folder / "none" / "usage.spool");
}

TEST_F(UsageSpoolTest, EndsSomewhere) {
  std::vector<UsageSpool> held;
  for (int i = 0; i < 64; ++i) {
    auto one = UsageSpool::claim(file);
    ASSERT_TRUE(one);
    held.push_back(std::move(*one));
  }
  const auto one_more = UsageSpool::claim(file);
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().code, base::ErrorCode::kFailedPrecondition);
}

}  // namespace
}  // namespace conclave::gateway
