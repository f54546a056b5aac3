#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing_render.hpp"

namespace conclave::jinja {
namespace {

using ::testing::HasSubstr;
using testing::render;

TEST(MethodsTest, SplitsLikePython) {
  EXPECT_EQ(render("{{ ' a  b '.split() }}{{ 'a,,b'.split(',') }}{{ 'a,b,c'.split(',', 1) }}"),
            R"(["a", "b"]["a", "", "b"]["a", "b,c"])");
  EXPECT_EQ(render("{{ ''.split() }}{{ ''.split(',') }}"), R"([][""])");
  EXPECT_EQ(render("{{ 'a\\r\\nb\\n\\nc'.splitlines() }}"), R"(["a", "b", "", "c"])");
  EXPECT_THAT(render("{{ 'a'.split('') }}"), HasSubstr("separator of split() is empty"));
  EXPECT_THAT(render("{{ 'a'.split(1) }}"), HasSubstr("must be a string"));
}

TEST(MethodsTest, StripsSpaceOrTheGivenCharacters) {
  EXPECT_EQ(render("{{ ' a '.strip() }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}"), "a|a | a");
  EXPECT_EQ(render("{{ '\\n a\\n'.strip('\\n') }}|{{ 'éaé'.strip('é') }}"), " a|a");
}

TEST(MethodsTest, Searches) {
  EXPECT_EQ(render("{{ 'hello'.startswith('he') }}{{ 'hello'.endswith(['x', 'lo']) }}"),
            "truetrue");
  EXPECT_EQ(render("{{ 'éab'.find('b') }}{{ 'a'.find('x') }}"
                   "{{ 'aaa'.count('a') }}"),
            "2-13");
  EXPECT_THAT(render("{{ 'a'.startswith(1) }}"), HasSubstr("startswith() needs a string"));
}

TEST(MethodsTest, Joins) {
  EXPECT_EQ(render("{{ ', '.join(['a', 1]) }}{{ 'xa'.removeprefix('x') }}{{ '12'.isdigit() }}"),
            "a, 1atrue");
}

TEST(MethodsTest, DictsHaveGetAndViews) {
  EXPECT_EQ(render("{{ d.get('a') }}{{ d.get('z', 5) }}{{ d.keys() }}{{ d.values() }}",
                   R"({"d": {"a": 1, "keys2": 2}})"),
            R"(15["a", "keys2"][1, 2])");
  EXPECT_EQ(render("{{ d.items }}", R"({"d": {"items": "own"}})"), "own");
  EXPECT_THAT(render("{{ {}.get(1) }}"), HasSubstr("get() needs a string as key"));
}

TEST(MethodsTest, MembersOfNothingAreUndefined) {
  EXPECT_EQ(render("{{ x.y.z is defined }}{{ [1].nosuch is defined }}{{ [1][5] is defined }}"),
            "falsefalsefalse");
  EXPECT_EQ(render("{{ [1, 2][-1] }}{{ 'abc'[-1] }}{{ 'aé'.length }}{{ [[5]].0.0 }}"), "2c25");
}

TEST(MethodsTest, NamespacesHoldAttributes) {
  EXPECT_EQ(render("{% set n = namespace({'a': 1}, b=2) %}{% set n.c = n.a + n.b %}{{ n }}"),
            R"({"a": 1, "b": 2, "c": 3})");
  EXPECT_THAT(render("{{ namespace(1) }}"), HasSubstr("is not a dict"));
}

TEST(MethodsTest, RangesAreBoundedByMemory) {
  EXPECT_EQ(render("{{ range(3) }}{{ range(5, 0, -2) }}{{ range(1, 1) }}"), "[0, 1, 2][5, 3, 1][]");
  EXPECT_EQ(render("{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807) }}"),
            "[-9223372036854775807, 0]");
  EXPECT_THAT(render("{{ range(1000000000) }}"), HasSubstr("makes too much data"));
  EXPECT_THAT(render("{{ range(1, 2, 0) }}"), HasSubstr("step of range() is zero"));
}

}  // namespace
}  // namespace conclave::jinja
