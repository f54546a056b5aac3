#include "conclave/jinja/value.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace conclave::jinja {
namespace {

TEST(ValueTest, KnowsItsType) {
  EXPECT_EQ(Value().type(), Value::Type::kUndefined);
  EXPECT_EQ(Value(nullptr).type(), Value::Type::kNull);
  EXPECT_EQ(Value(true).type(), Value::Type::kBool);
  EXPECT_EQ(Value(7).as_int(), 7);
  EXPECT_EQ(Value(std::size_t{7}).as_int(), 7);
  EXPECT_EQ(Value(1.5).as_float(), 1.5);
  EXPECT_EQ(Value("text").as_string(), "text");
  EXPECT_EQ(Value(Array{1, "a"}).as_array().size(), 2U);
  EXPECT_TRUE(Value::tuple({1}).is_tuple());
  EXPECT_TRUE(Value::tuple({1}).is_array());
  EXPECT_TRUE(Value(Object{{"k", 1}}).is_object());
  EXPECT_EQ(type_name(Value::tuple({})), "tuple");
}

TEST(ValueTest, EmptyAndZeroAreFalse) {
  for (const Value& value :
       {Value(), Value(nullptr), Value(false), Value(0), Value(0.0), Value(""), Value(Array{}),
        Value(Object{}), Value(std::numeric_limits<double>::quiet_NaN())}) {
    EXPECT_FALSE(value.truthy()) << type_name(value);
  }
  for (const Value& value : {Value(true), Value(-1), Value(0.1), Value(" "), Value(Array{0})}) {
    EXPECT_TRUE(value.truthy()) << type_name(value);
  }
}

TEST(ValueTest, DepthCountsContainers) {
  EXPECT_EQ(Value("x").depth(), 0U);
  EXPECT_EQ(Value(Array{}).depth(), 1U);
  EXPECT_EQ(Value(Object{{"k", Array{1, Array{}}}}).depth(), 3U);
}

TEST(ValueTest, AskingForAnotherTypeAborts) {
  EXPECT_DEATH((void)Value(1).as_string(), "is_string");
}

TEST(ObjectTest, KeepsInsertionOrderAndReplacesInPlace) {
  Object object{{"b", 1}, {"a", 2}};
  object.set("b", 3);
  object.set("c", 4);
  ASSERT_EQ(object.size(), 3U);
  EXPECT_EQ(object.entries()[0].first, "b");
  EXPECT_EQ(object.entries()[0].second.as_int(), 3);
  EXPECT_EQ(object.find("zz"), nullptr);
}

TEST(ObjectTest, FindsKeysInLargeObjects) {
  Object object;
  for (int i = 0; i < 1000; ++i) object.set("key" + std::to_string(i), i);
  object.set("key500", "new");
  EXPECT_EQ(object.size(), 1000U);
  EXPECT_EQ(object.find("key999")->as_int(), 999);
  EXPECT_EQ(object.find("key500")->as_string(), "new");
  EXPECT_FALSE(object.contains("key1000"));
}

}  // namespace
}  // namespace conclave::jinja
