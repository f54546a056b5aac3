#include "conclave/app/node.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

namespace conclave::app {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

TEST(NodeNameTest, KeepsAGoodName) {
  EXPECT_EQ(node_name("worker-7.rack-2", "expert-worker"), "worker-7.rack-2");
  EXPECT_EQ(node_name(std::string(63, 'a'), "router"), std::string(63, 'a'));
}

TEST(NodeNameTest, RefusesOthersAndSaysWhichSetting) {
  for (const std::string& name : {std::string("Worker"), std::string("a b"), std::string("a_b"),
                                  std::string("a/b"), std::string("é"), std::string(64, 'a')}) {
    const auto checked = node_name(name, "router");
    ASSERT_FALSE(checked.has_value()) << name;
    EXPECT_EQ(checked.error().code, base::ErrorCode::kInvalidArgument);
    EXPECT_THAT(checked.error().message, HasSubstr("node.name"));
  }
}

TEST(NodeNameTest, MakesOneThatIsGoodAndTellsProcessesApart) {
  const std::string name = node_name("", "expert-worker").value();
  EXPECT_THAT(name, StartsWith("expert-worker-"));
  EXPECT_THAT(name, EndsWith("-" + std::to_string(::getpid())));
  EXPECT_EQ(node_name(name, "expert-worker"), name);
}

TEST(NodeZoneTest, IsAShortWordOrNothing) {
  EXPECT_TRUE(check_zone(""));
  EXPECT_TRUE(check_zone("eu-west_1.a"));
  for (const std::string& zone : {std::string("a b"), std::string("\n"), std::string(64, 'a')}) {
    const auto checked = check_zone(zone);
    ASSERT_FALSE(checked) << zone;
    EXPECT_EQ(checked.error().code, base::ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace conclave::app
