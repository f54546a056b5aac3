#include "operators.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing_render.hpp"

namespace conclave::jinja {
namespace {

using ::testing::HasSubstr;
using testing::render;

TEST(OperatorsTest, ArithmeticKeepsIntegersAndFloatsApart) {
  EXPECT_EQ(render("{{ 7 + 2 }} {{ 7 + 2.0 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }}"),
            "9 9.0 3.5 3.0 3 -4");
  EXPECT_EQ(render("{{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}"),
            "1 -1 1024 0.5 64");
  EXPECT_EQ(render("{{ -9223372036854775808 // -1 }}"),
            "failed_precondition: 1:25: the integer result does not fit 64 bits");
  EXPECT_EQ(render("{{ -9223372036854775808 % -1 }}"), "0");
  EXPECT_THAT(render("{{ 9223372036854775807 * 2 }}"), HasSubstr("does not fit 64 bits"));
  EXPECT_THAT(render("{{ 1 // 0 }}"), HasSubstr("division by zero"));
}

TEST(OperatorsTest, EqualityConvertsScalarsAndComparesContents) {
  EXPECT_EQ(render("{{ 1 == 1.0 }}{{ 1 == '1' }}{{ true == 1 }}{{ '' == 0 }}"), "truetruetruetrue");
  EXPECT_EQ(render("{{ none == missing }}{{ none == 0 }}{{ none == false }}"), "truefalsefalse");
  EXPECT_EQ(render("{{ [1, {'a': [2]}] == [1, {'a': [2]}] }}{{ [1] == [2] }}{{ {} == [] }}"),
            "truefalsefalse");
}

TEST(OperatorsTest, MembershipDoesNotConvert) {
  EXPECT_EQ(render("{{ 1 in [1.0] }}{{ '1' in [1] }}{{ 'b' in 'abc' }}{{ 'k' in {'k': 1} }}"),
            "truefalsetruetrue");
  EXPECT_EQ(render("{{ 'x' in missing }}{{ 'x' not in missing }}"), "falsetrue");
  EXPECT_THAT(render("{{ 1 in 'abc' }}"), HasSubstr("cannot apply 'in' to integer and string"));
}

TEST(OperatorsTest, TextTakesAnythingButNothing) {
  EXPECT_EQ(render("{{ 'a' + 1 }}{{ 1.0 ~ true }}{{ 'l' ~ [1, none] }}"), "a11truel1,undefined");
  EXPECT_THAT(render("{{ 'a' ~ none }}"), HasSubstr("cannot apply '~' to string and none"));
  EXPECT_THAT(render("{{ missing + 'a' }}"), HasSubstr("undefined and string"));
  EXPECT_EQ(render("{{ 'ab' * 3 }}{{ 'ab' * -1 }}"), "ababab");
}

TEST(OperatorsTest, LogicReturnsOperands) {
  EXPECT_EQ(render("{{ '' or 'b' }}{{ 0 and nosuch() }}{{ 1 and 'c' }}{{ not [] }}"), "b0ctrue");
  EXPECT_EQ(render("{{ 'y' if 1 else nosuch() }}{{ 'y' if 0 }}"), "y");
}

TEST(OperatorsTest, SlicesFollowPython) {
  EXPECT_EQ(render("{{ [0,1,2,3,4][1:4] }}{{ [0,1,2,3,4][::-2] }}{{ [0,1][5:] }}{{ [0,1][:-9] }}"),
            "[1, 2, 3][4, 2, 0][][]");
  EXPECT_EQ(render("{{ 'aé日😀'[1:3] }}{{ 'aé日😀'[::-1] }}"), "é日😀日éa");
  EXPECT_EQ(render("{{ [1,2,3][-9223372036854775807:9223372036854775807:9223372036854775807] }}"),
            "[1]");
  EXPECT_THAT(render("{{ [1]['a':] }}"), HasSubstr("a slice bound must be an integer"));
}

}  // namespace
}  // namespace conclave::jinja
