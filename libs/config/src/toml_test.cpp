#include "toml.hpp"

#include <gmock/gmock.h>

namespace conclave::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<TomlItem> read(std::string_view text) {
  auto items = read_toml(text);
  EXPECT_TRUE(items.has_value()) << items.error().to_string();
  return items ? *std::move(items) : std::vector<TomlItem>();
}

std::string error_of(std::string_view text) {
  const auto items = read_toml(text);
  return items ? "no error" : items.error().message;
}

TEST(TomlTest, ReadsTablesKeysAndComments) {
  const auto items = read(
      "# first\n"
      "top = 1 # why\r\n"
      "\n"
      "[router]\n"
      "max_inflight = 3\n"
      "  [ a . \"b c\" ] # more\n"
      "d.e = true");
  ASSERT_THAT(items, SizeIs(3));
  EXPECT_THAT(items[0].path, ElementsAre("top"));
  EXPECT_THAT(items[0].values, ElementsAre("1"));
  EXPECT_THAT(items[1].path, ElementsAre("router", "max_inflight"));
  EXPECT_EQ(items[1].line, 5u);
  EXPECT_THAT(items[2].path, ElementsAre("a", "b c", "d", "e"));
  EXPECT_THAT(items[2].values, ElementsAre("true"));
}

TEST(TomlTest, ReadsTextWithAnythingInIt) {
  const auto items = read(R"(a = "x # y, [z] = \"q\"\\ \u00e9\t"
b = 'C:\no # escapes, "here"'
c = "")");
  ASSERT_THAT(items, SizeIs(3));
  EXPECT_THAT(items[0].values, ElementsAre("x # y, [z] = \"q\"\\ é\t"));
  EXPECT_THAT(items[1].values, ElementsAre(R"(C:\no # escapes, "here")"));
  EXPECT_THAT(items[2].values, ElementsAre(""));
}

TEST(TomlTest, ReadsNumbersAsTheyAreWritten) {
  const auto items = read("a = 1_000\nb = -2.5e3\nc = +7\nd = 0xFF\ne = inf\n");
  ASSERT_THAT(items, SizeIs(5));
  EXPECT_THAT(items[0].values, ElementsAre("1000"));
  EXPECT_THAT(items[1].values, ElementsAre("-2.5e3"));
  EXPECT_THAT(items[2].values, ElementsAre("7"));
  EXPECT_THAT(items[3].values, ElementsAre("0xFF"));
  EXPECT_THAT(items[4].values, ElementsAre("inf"));
}

TEST(TomlTest, ReadsListsOverSeveralLines) {
  const auto items = read("a = []\nb = [1,2]\nc = [\n  \"x, y\", # one\n  'z',\n]\nd = 1\n");
  ASSERT_THAT(items, SizeIs(4));
  EXPECT_TRUE(items[0].is_list);
  EXPECT_THAT(items[0].values, IsEmpty());
  EXPECT_THAT(items[1].values, ElementsAre("1", "2"));
  EXPECT_THAT(items[2].values, ElementsAre("x, y", "z"));
  EXPECT_FALSE(items[3].is_list);
  EXPECT_EQ(items[3].line, 7u);
}

TEST(TomlTest, ReadsNothingFromNothing) {
  EXPECT_THAT(read(""), IsEmpty());
  EXPECT_THAT(read("\n\n# only this"), IsEmpty());
}

TEST(TomlTest, RefusesWhatItDoesNotUnderstandAndNamesTheLine) {
  EXPECT_EQ(error_of("a = 1\nb"), "line 2: expected key = value");
  EXPECT_THAT(error_of("a = word"), HasSubstr("line 1: 'word' is no number"));
  EXPECT_THAT(error_of("a ="), HasSubstr("is no number"));
  EXPECT_THAT(error_of("a = 2026-01-31"), HasSubstr("is no number"));
  EXPECT_THAT(error_of("a = {b = 1}"), HasSubstr("is no number"));
  EXPECT_THAT(error_of("a = 1 2"), HasSubstr("something follows"));
  EXPECT_THAT(error_of("a = \"x"), HasSubstr("not closed"));
  EXPECT_THAT(error_of("a = \"x\ny\""), HasSubstr("not closed"));
  EXPECT_THAT(error_of("a = \"\"\"x\"\"\""), HasSubstr("several lines"));
  EXPECT_THAT(error_of("a = \"\\q\""), HasSubstr("no escape"));
  EXPECT_THAT(error_of("a = \"\\ud800\""), HasSubstr("no escape"));
  EXPECT_THAT(error_of("a = \"\\u12\""), HasSubstr("no escape"));
  EXPECT_THAT(error_of("a = \"\\"), HasSubstr("no escape"));
  EXPECT_THAT(error_of("a = [1 2]"), HasSubstr("a list is"));
  EXPECT_THAT(error_of("a = [1,"), HasSubstr("a list is"));
  EXPECT_THAT(error_of("a = [[1]]"), HasSubstr("is no number"));
  EXPECT_THAT(error_of("[[a]]"), HasSubstr("arrays of tables"));
  EXPECT_THAT(error_of("[a"), HasSubstr("ends with ]"));
  EXPECT_THAT(error_of("[]"), HasSubstr("expected a key"));
  EXPECT_THAT(error_of("= 1"), HasSubstr("expected a key"));
  EXPECT_THAT(error_of("a = 1\na = 2"), HasSubstr("line 2: 'a' is set twice"));
  EXPECT_THAT(error_of("a = \"\xff\""), HasSubstr("UTF-8"));
  EXPECT_THAT(error_of(std::string_view("a = 1\0", 6)), HasSubstr("NUL"));
  EXPECT_THAT(error_of(std::string(kTomlBytesMax + 1, '\n')), HasSubstr("MiB"));
}

}  // namespace
}  // namespace conclave::config
