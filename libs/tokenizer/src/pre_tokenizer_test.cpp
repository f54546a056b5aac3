#include "pre_tokenizer.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/utf8.hpp"

namespace conclave::tokenizer {
namespace {

std::vector<std::string> words(std::string_view rule, std::string_view text) {
  const auto tokenizer = PreTokenizer::create(*find_pre_rule(rule));
  EXPECT_TRUE(tokenizer) << tokenizer.error().to_string();
  PreTokenizer::Scratch scratch;
  std::vector<std::uint32_t> ends;
  const auto status = tokenizer->split(text, scratch, ends);
  EXPECT_TRUE(status) << status.error().to_string();
  std::vector<std::string> out;
  std::uint32_t start = 0;
  for (const std::uint32_t end : ends) {
    out.emplace_back(text.substr(start, end - start));
    start = end;
  }
  EXPECT_EQ(start, text.size());
  return out;
}

using Words = std::vector<std::string>;

TEST(PreRulesTest, NamesAreUniqueAndEveryPatternCompiles) {
  std::set<std::string_view> names;
  for (const PreRule& rule : pre_rules()) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
    const auto tokenizer = PreTokenizer::create(rule);
    EXPECT_TRUE(tokenizer) << rule.name << ": " << tokenizer.error().to_string();
  }
  EXPECT_EQ(find_pre_rule("no such rule"), nullptr);
}

TEST(PreTokenizerTest, AnEmptyTextHasNoWords) { EXPECT_EQ(words("qwen2", ""), Words{}); }

TEST(PreTokenizerTest, Gpt2KeepsTheSpaceWithTheWord) {
  EXPECT_EQ(words("gpt-2", "Hello  world, it's 123"),
            (Words{"Hello", " ", " world", ",", " it", "'s", " 123"}));
  EXPECT_EQ(words("gpt-2", "a  \n "), (Words{"a", "  \n "}));
}

TEST(PreTokenizerTest, RulesDifferInHowTheyGroupDigits) {
  EXPECT_EQ(words("llama-bpe", "12345"), (Words{"123", "45"}));
  EXPECT_EQ(words("qwen2", "123"), (Words{"1", "2", "3"}));
  EXPECT_EQ(words("starcoder", " 12"), (Words{" ", "1", "2"}));
  EXPECT_EQ(words("gpt-2", " 12345"), (Words{" 12345"}));
  EXPECT_EQ(words("default", "12345"), (Words{"123", "45"}));
}

TEST(PreTokenizerTest, O200kCutsWhereTheCaseChanges) {
  EXPECT_EQ(words("gpt-4o", "camelCase HTTPServer don't"),
            (Words{"camel", "Case", " HTTPServer", " don't"}));
  EXPECT_EQ(words("tekken", "don't"), (Words{"don", "'t"}));
}

TEST(PreTokenizerTest, Qwen35KeepsMarksWithTheirLetters) {
  EXPECT_EQ(words("qwen35", "e\u0301te\u0301"), (Words{"e\u0301te\u0301"}));
  EXPECT_EQ(words("qwen2", "e\u0301te\u0301"), (Words{"e", "\u0301te", "\u0301"}));
}

TEST(PreTokenizerTest, KimiSeparatesHanFromOtherLetters) {
  EXPECT_EQ(words("kimi-k2", "你好abc世界 x"), (Words{"你好", "abc", "世界", " x"}));
}

TEST(PreTokenizerTest, DeepseekAppliesItsStepsInOrder) {
  EXPECT_EQ(words("deepseek-v3", "价格123456元"), (Words{"价格", "123", "456", "元"}));
  EXPECT_EQ(words("deepseek-llm", "ab\r\ncd  "), (Words{"ab", "\r", "\n", "cd", "  "}));
}

TEST(PreTokenizerTest, WhiteSpaceIsThatOfUnicode) {
  // U+2003 and U+3000 are white space; U+180E has not been since Unicode 6.3.
  EXPECT_EQ(words("gpt-2", "a\u2003\u3000b"), (Words{"a", "\u2003", "\u3000", "b"}));
  EXPECT_EQ(words("gpt-2", " \u180E"), (Words{" \u180E"}));
}

// Each would take minutes if its rule were quadratic, and overflow a stack if it recursed.
TEST(PreTokenizerTest, LongRunsTakeLinearTime) {
  constexpr std::size_t kBytes = std::size_t{1} << 18;
  std::string cyrillic;
  while (cyrillic.size() < kBytes) cyrillic += "Жж";
  const std::vector<std::string> texts = {
      std::string(kBytes, 'a'),
      std::string(kBytes, 'A'),
      std::string(kBytes, ' ') + "x",
      "x" + std::string(kBytes, ' '),
      std::string(kBytes, '\n') + "x",
      std::string(kBytes, '7'),
      std::string(kBytes, '\''),
      std::string(kBytes, '.') + "a",
      cyrillic,
  };
  for (const PreRule& rule : pre_rules()) {
    SCOPED_TRACE(rule.name);
    for (const std::string& text : texts) EXPECT_FALSE(words(rule.name, text).empty());
  }
}

}  // namespace
}  // namespace conclave::tokenizer
