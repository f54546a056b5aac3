#include "conclave/base/error.hpp"

#include <gtest/gtest.h>

#include <set>

#include "conclave/base/result.hpp"

namespace conclave::base {
namespace {

TEST(ErrorTest, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 1; code <= kErrorCodeCount; ++code) {
    names.insert(to_string(static_cast<ErrorCode>(code)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kErrorCodeCount));
}

Result<int> half(int value) {
  if (value % 2 != 0) return fail(ErrorCode::kInvalidArgument, "odd");
  return value / 2;
}

Result<int> quarter(int value) {
  CONCLAVE_TRY(const int once, half(value));
  CONCLAVE_TRY(const int twice, half(once));
  return twice;
}

TEST(ResultTest, TryBindsTheValueOrReturnsTheError) {
  EXPECT_EQ(quarter(8).value(), 2);
  ASSERT_FALSE(quarter(6));
  EXPECT_EQ(quarter(6).error(), (Error{ErrorCode::kInvalidArgument, "odd"}));
  EXPECT_EQ(quarter(6).error().within("quarter(6)").to_string(),
            "invalid_argument: quarter(6): odd");
}

}  // namespace
}  // namespace conclave::base
