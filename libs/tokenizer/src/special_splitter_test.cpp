#include "special_splitter.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "testing_vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

using Parts = std::vector<std::pair<TokenId, std::string>>;

class SpecialSplitterTest : public testing::Test {
 protected:
  void load(const std::vector<std::string>& texts) {
    testing_vocabulary::Builder builder;
    builder.model = "gpt2";
    for (const std::string& text : texts) ids_.push_back(builder.add(text));
    auto vocabulary = Vocabulary::load(builder.metadata());
    ASSERT_TRUE(vocabulary) << vocabulary.error().to_string();
    vocabulary_ = std::make_unique<Vocabulary>(std::move(*vocabulary));
  }

  [[nodiscard]] Parts split(std::string_view text) const {
    Parts parts;
    const SpecialSplitter splitter(*vocabulary_, ids_);
    for (const Fragment& part : splitter.split(text)) parts.emplace_back(part.id, part.text);
    return parts;
  }

  std::vector<TokenId> ids_;
  std::unique_ptr<Vocabulary> vocabulary_;
};

TEST_F(SpecialSplitterTest, CutsAtEveryOccurrence) {
  load({"<a>", "<b>"});
  EXPECT_EQ(split("x<a><b>y<a>"),
            (Parts{{kNoToken, "x"}, {0, "<a>"}, {1, "<b>"}, {kNoToken, "y"}, {0, "<a>"}}));
  EXPECT_EQ(split("<a"), (Parts{{kNoToken, "<a"}}));
  EXPECT_EQ(split(""), Parts{});
}

TEST_F(SpecialSplitterTest, PrefersTheLongestTextEvenWhenAShorterOneStartsEarlier) {
  load({"ab", "bcd", "bc"});
  EXPECT_EQ(split("abcd"), (Parts{{kNoToken, "a"}, {1, "bcd"}}));
  EXPECT_EQ(split("abc"), (Parts{{0, "ab"}, {kNoToken, "c"}}));
}

TEST_F(SpecialSplitterTest, TakesRunsGreedily) {
  load({"  ", "    ", "        "});
  EXPECT_EQ(split(std::string(13, ' ')), (Parts{{2, "        "}, {1, "    "}, {kNoToken, " "}}));
}

// Against the definition: for each token, longest first, cut every remaining piece of text.
TEST_F(SpecialSplitterTest, AgreesWithTheDefinitionOnRandomTexts) {
  const std::vector<std::string> texts = {"aab", "ab", "bab", "ba", "aaaa", "bbb", "ca", "abcab"};
  load(texts);
  std::vector<std::size_t> order(texts.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return texts[a].size() > texts[b].size(); });
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (std::size_t i = random() % 40; i > 0; --i) text += static_cast<char>('a' + random() % 3);
    Parts expected;
    if (!text.empty()) expected.emplace_back(kNoToken, text);
    for (const std::size_t token : order) {
      Parts next;
      for (auto [id, part] : expected) {
        std::size_t at = std::string::npos;
        while (id == kNoToken && (at = part.find(texts[token])) != std::string::npos) {
          if (at > 0) next.emplace_back(kNoToken, part.substr(0, at));
          next.emplace_back(static_cast<TokenId>(token), texts[token]);
          part.erase(0, at + texts[token].size());
        }
        if (!part.empty()) next.emplace_back(id, part);
      }
      expected = next;
    }
    ASSERT_EQ(split(text), expected) << text;
  }
}

}  // namespace
}  // namespace conclave::tokenizer
