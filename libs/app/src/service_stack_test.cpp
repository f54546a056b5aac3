#include "conclave/app/service_stack.hpp"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "testing_service.hpp"

namespace conclave::app {
namespace {

using base::ErrorCode;
using testing::ElementsAre;
using testing::IsEmpty;

struct ServiceStackTest : testing::Test {
  std::vector<std::string> told;
  ServiceStack stack;

  FakeService& add(const char* name) {
    auto service = std::make_unique<FakeService>(
        name, [this](const std::string& what) { told.push_back(what); });
    FakeService& fake = *service;
    stack.add(std::move(service));
    return fake;
  }
  std::string why_not_ready() {
    const base::Status status = stack.ready();
    return status ? "ready" : status.error().message;
  }
};

TEST_F(ServiceStackTest, StartsInOrderAndDrainsAndStopsInReverse) {
  add("a");
  add("b");
  ASSERT_TRUE(stack.start().has_value());
  stack.drain({});
  stack.stop();
  EXPECT_THAT(told, ElementsAre("a start", "b start", "b drain", "a drain", "b stop", "a stop"));
}

TEST_F(ServiceStackTest, StopsWhatStartedWhenOneFails) {
  add("a");
  add("b").start_status = base::fail(ErrorCode::kUnavailable, "port taken");
  add("c");
  const base::Status status = stack.start();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().to_string(), "unavailable: b: port taken");
  EXPECT_THAT(told, ElementsAre("a start", "b start", "b stop", "a stop"));
  EXPECT_EQ(why_not_ready(), "stopped");
}

TEST_F(ServiceStackTest, StopsOnceHoweverOftenItIsTold) {
  {
    ServiceStack inner;
    inner.add(std::make_unique<FakeService>(
        "a", [this](const std::string& what) { told.push_back(what); }));
    ASSERT_TRUE(inner.start().has_value());
    inner.stop();
    inner.stop();
    inner.drain({});
  }
  EXPECT_THAT(told, ElementsAre("a start", "a stop"));
}

TEST_F(ServiceStackTest, NeverStartedIsNeverStopped) {
  {
    ServiceStack inner;
    inner.add(std::make_unique<FakeService>(
        "a", [this](const std::string& what) { told.push_back(what); }));
  }
  EXPECT_THAT(told, IsEmpty());
}

TEST_F(ServiceStackTest, IsReadyOnlyWhileItRunsAndEveryServiceIs) {
  add("a");
  FakeService& b = add("b");
  b.on_start = [&] { EXPECT_EQ(why_not_ready(), "starting"); };
  EXPECT_EQ(why_not_ready(), "starting");
  ASSERT_TRUE(stack.start().has_value());
  EXPECT_EQ(why_not_ready(), "ready");
  b.ready_status = base::fail(ErrorCode::kUnavailable, "no placement yet");
  EXPECT_EQ(why_not_ready(), "b: no placement yet");
  b.ready_status = {};
  stack.drain({});
  EXPECT_EQ(why_not_ready(), "draining");
  stack.stop();
  EXPECT_EQ(why_not_ready(), "stopped");
}

}  // namespace
}  // namespace conclave::app
