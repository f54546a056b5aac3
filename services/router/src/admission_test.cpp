#include "admission.hpp"

#include <gtest/gtest.h>

#include <future>

namespace conclave::router {
namespace {

using base::ErrorCode;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{30};

TEST(AdmissionTest, TakesOnNoMoreThanItMay) {
  Admission admission(3);
  EXPECT_TRUE(admission.take(2));

  const base::Status refused = admission.take(2);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_TRUE(admission.take(1));
  admission.give_back(3);
  EXPECT_TRUE(admission.take(3));
}

TEST(AdmissionTest, NeverTakesOnMoreThanThereIsAtAll) {
  Admission admission(3);

  EXPECT_EQ(admission.take(4).error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(admission.take(~std::size_t{0}).error().code, ErrorCode::kOverloaded);
}

TEST(AdmissionTest, TakesOnNothingOnceItIsClosed) {
  Admission admission(3);
  EXPECT_FALSE(admission.closed());

  admission.close();

  EXPECT_TRUE(admission.closed());
  EXPECT_EQ(admission.take(1).error().code, ErrorCode::kUnavailable);
}

TEST(AdmissionTest, WaitsUntilAllHaveEnded) {
  Admission admission(3);
  EXPECT_TRUE(admission.wait_until_empty(Clock::now()));
  ASSERT_TRUE(admission.take(2));
  EXPECT_FALSE(admission.wait_until_empty(Clock::now()));
  auto waiting = std::async(std::launch::async,
                            [&] { return admission.wait_until_empty(Clock::now() + kPatience); });

  admission.give_back(1);
  admission.give_back(1);

  EXPECT_TRUE(waiting.get());
}

}  // namespace
}  // namespace conclave::router
