#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing_render.hpp"

namespace conclave::jinja {
namespace {

using ::testing::HasSubstr;
using testing::render;

constexpr std::string_view kPeople =
    R"({"p": [{"n": "Ann", "age": 41, "at": {"city": "Oslo"}}, {"n": "bob", "age": 30}]})";

TEST(FiltersTest, JsonIsPythonsByDefault) {
  EXPECT_EQ(render("{{ {'b': [1, none, 1.0], 'a': 'é\"\\n'} | tojson }}"),
            R"({"b": [1, null, 1], "a": "é\"\n"})");
  EXPECT_EQ(render("{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}"),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
  EXPECT_EQ(render("{{ ['é😀'] | tojson(ensure_ascii=true, separators=(',', ':')) }}"),
            R"(["\u00e9\ud83d\ude00"])");
  EXPECT_EQ(render("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}"), R"({"a": 2, "b": 1})");
  EXPECT_THAT(render("{{ 1 | tojson(indent=1000) }}"), HasSubstr("small non-negative"));
  EXPECT_THAT(render("{{ range | tojson }}"), HasSubstr("a function cannot become text"));
}

TEST(FiltersTest, Texts) {
  EXPECT_EQ(
      render("{{ ' a ' | trim }}{{ 'ab' | upper }}{{ 'a b' | title }}{{ 'ab' | capitalize }}"),
      "aABA BAb");
  EXPECT_EQ(render("{{ 'a\\nb\\n\\nc' | indent(2, true) }}"), "  a\n  b\n\n  c");
  EXPECT_EQ(render("{{ 'aaa' | replace('a', 'b', 2) }}{{ 'ab' | replace('', '-') }}"), "bba-a-b-");
  EXPECT_EQ(render("{{ '<&>' | e }}{{ 1.0 | string }}{{ [1] | string }}"), "&lt;&amp;&gt;1.0[1]");
  EXPECT_THAT(render("{{ none | trim }}"), HasSubstr("cannot apply the filter 'trim' to none"));
}

TEST(FiltersTest, Numbers) {
  EXPECT_EQ(render("{{ '12px' | int }}{{ 'x' | int(7) }}{{ 2.7 | int }}{{ '1.5' | float }}"),
            "12721.5");
  EXPECT_EQ(render("{{ -3 | abs }}{{ -2.5 | abs }}"), "32.5");
  EXPECT_THAT(render("{{ -9223372036854775808 | abs }}"), HasSubstr("does not fit"));
}

TEST(FiltersTest, Defaults) {
  EXPECT_EQ(render("{{ x | default('d') }}{{ '' | default('d') }}{{ '' | d('d', true) }}"), "dd");
  EXPECT_THAT(render("{{ x | default('d', 1) }}"), HasSubstr("must be a boolean"));
}

TEST(FiltersTest, Lists) {
  EXPECT_EQ(
      render("{{ [3, 1, 2] | sort }}{{ ['b', 'A'] | sort }}{{ [1, 2] | sort(reverse=true) }}"),
      R"([1, 2, 3]["A", "b"][2, 1])");
  EXPECT_EQ(render("{{ [1, 2] | first }}{{ [1, 2] | last }}{{ [1, 2] | reverse }}{{ [] | first }}"),
            "12[2, 1]");
  EXPECT_EQ(render("{{ [1, 1, 'a', [2], [2]] | unique }}{{ [1, none, 'x'] | join('-') }}"),
            R"([1, "a", [2]]1--x)");
  EXPECT_EQ(render("{{ [1, 2, 3] | select('odd') | list }}{{ [1, 2] | map('string') | list }}"),
            R"([1, 3]["1", "2"])");
  EXPECT_THAT(render("{{ [1, 'a'] | sort }}"), HasSubstr("cannot sort string with other values"));
  EXPECT_THAT(render("{{ [1] | map('map') }}"), HasSubstr("cannot map itself"));
}

TEST(FiltersTest, Attributes) {
  EXPECT_EQ(render("{{ p | map(attribute='n') | join }}{{ p | sort(attribute='age') | "
                   "map(attribute='n') | first }}",
                   kPeople),
            "Annbobbob");
  EXPECT_EQ(render("{{ p | selectattr('at') | length() }}{{ p | rejectattr('n', 'equalto', 'Ann') "
                   "| map(attribute='n') | join }}",
                   kPeople),
            "1bob");
  EXPECT_EQ(render("{{ p | map(attribute='at.city', default='?') | join(',') }}", kPeople),
            "Oslo,?");
  EXPECT_THAT(render("{{ [1] | selectattr('x') }}"), HasSubstr("needs dicts, not integer"));
  EXPECT_THAT(render("{{ p | selectattr('n', 'nosuch') }}", kPeople), HasSubstr("unknown test"));
}

TEST(FiltersTest, Dicts) {
  EXPECT_EQ(render("{{ {'b': 1, 'a': 2} | items }}{{ {'b': 1, 'a': 2} | dictsort }}"),
            R"([["b", 1], ["a", 2]][["a", 2], ["b", 1]])");
  EXPECT_EQ(render("{{ {'b': 1, 'a': 2} | dictsort(by='value', reverse=true) }}"),
            R"([["a", 2], ["b", 1]])");
  EXPECT_EQ(render("{{ {'a': 1} | length }}{{ {'a': 1} | keys }}{{ {'a': 1} | values }}"),
            R"(1["a"][1])");
}

TEST(FiltersTest, TestsTakeArguments) {
  EXPECT_EQ(render("{{ 6 is divisibleby(3) }}{{ 6 is divisibleby 4 }}{{ 1 is in [1] }}"),
            "truefalsetrue");
  EXPECT_EQ(render("{{ 1 is odd }}{{ x is not defined }}{{ [] is iterable }}{{ 1.0 is integer }}"),
            "truetruetruefalse");
  EXPECT_THAT(render("{{ 'a' is odd }}"), HasSubstr("cannot test if string is odd"));
  EXPECT_THAT(render("{{ 1 is eq }}"), HasSubstr("needs one argument"));
}

}  // namespace
}  // namespace conclave::jinja
