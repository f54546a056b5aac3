#include "conclave/jinja/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conclave/jinja/template.hpp"

namespace conclave::jinja {
namespace {

using base::ErrorCode;

TEST(JsonTest, KeepsTypesAndOrder) {
  const Value value = parse_json(R"({"z": [1, 1.5, true, null, "é"], "a": {}})").value();
  const auto& entries = value.as_object().entries();
  EXPECT_EQ(entries[0].first, "z");
  EXPECT_EQ(entries[1].first, "a");
  const Array& list = entries[0].second.as_array();
  EXPECT_TRUE(list[0].is_int());
  EXPECT_TRUE(list[1].is_float());
  EXPECT_TRUE(list[2].is_bool());
  EXPECT_TRUE(list[3].is_null());
  EXPECT_EQ(list[4].as_string(), "é");
}

TEST(JsonTest, WholeNumbersAreIntegersUpTo64Bits) {
  EXPECT_EQ(parse_json("1.0")->as_int(), 1);
  EXPECT_EQ(parse_json("1e3")->as_int(), 1000);
  EXPECT_EQ(parse_json("9223372036854775807")->as_int(), 9223372036854775807);
  EXPECT_TRUE(parse_json("9223372036854775808")->is_float());
  EXPECT_TRUE(parse_json("1e300")->is_float());
}

TEST(JsonTest, BoundsTheDepth) {
  const std::string deep(kValueDepthMax + 1, '[');
  EXPECT_EQ(parse_json(deep + std::string(kValueDepthMax + 1, ']')).error().code,
            ErrorCode::kInvalidArgument);
  boost::json::value nested;
  for (std::size_t i = 0; i < kValueDepthMax + 1; ++i) nested = boost::json::array{nested};
  EXPECT_EQ(from_json(nested).error().code, ErrorCode::kInvalidArgument);
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  EXPECT_EQ(parse_json("{").error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(parse_json("nul").error().message, ::testing::HasSubstr("not JSON"));
}

}  // namespace
}  // namespace conclave::jinja
