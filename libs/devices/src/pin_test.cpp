#include "conclave/devices/pin.hpp"

#include <gmock/gmock.h>

#include <thread>

namespace conclave::devices {
namespace {

// Bindings are undone by ending the thread: only a process binding outlives its test.
template <class Work>
void on_a_thread(Work work) {
  std::jthread thread(work);
}

TEST(PinTest, BindsTheCallingThreadOnly) {
  const CpuSet before = this_thread_cpus().value();
  const CpuSet last({before.cpus().back()});
  on_a_thread([&] {
    ASSERT_TRUE(pin_this_thread(last).has_value());
    EXPECT_EQ(this_thread_cpus(), last);
  });
  EXPECT_EQ(this_thread_cpus(), before);
}

TEST(PinTest, ThreadsStartedLaterInherit) {
  const CpuSet last({this_thread_cpus()->cpus().back()});
  on_a_thread([&] {
    ASSERT_TRUE(pin_this_thread(last).has_value());
    on_a_thread([&] { EXPECT_EQ(this_thread_cpus(), last); });
  });
}

TEST(PinTest, BindsEveryThreadOfTheProcess) {
  const CpuSet before = this_thread_cpus().value();
  const CpuSet first({before.cpus().front()});
  on_a_thread([&] { ASSERT_TRUE(pin_this_process(first).has_value()); });
  EXPECT_EQ(this_thread_cpus(), first);
  ASSERT_TRUE(pin_this_process(before).has_value());
  EXPECT_EQ(this_thread_cpus(), before);
}

TEST(PinTest, RefusesSetsThatCannotBe) {
  const auto none = pin_this_thread(CpuSet());
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, base::ErrorCode::kInvalidArgument);
  const auto absent = pin_this_thread(CpuSet({kCpuMax}));
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().code, base::ErrorCode::kFailedPrecondition);
  EXPECT_THAT(absent.error().message, testing::HasSubstr("8191"));
}

}  // namespace
}  // namespace conclave::devices
