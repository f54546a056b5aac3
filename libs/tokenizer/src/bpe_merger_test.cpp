#include "bpe_merger.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "testing_vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

// The definition, one step at a time: of all adjacent pairs that have a rank take the lowest, the
// leftmost of equals.
std::vector<std::string> merge_slowly(std::vector<std::string> row,
                                      const std::vector<std::string>& merges) {
  while (true) {
    std::size_t best_rank = merges.size();
    std::size_t best_at = 0;
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank] == row[i] + " " + row[i + 1]) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == merges.size()) return row;
    row[best_at] += row[best_at + 1];
    row.erase(row.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

class BpeMergerTest : public testing::Test {
 protected:
  // A random vocabulary over four letters whose merges overlap a lot.
  void SetUp() override {
    builder_.model = "gpt2";
    for (const char* const letter : {"a", "b", "c", "d"}) builder_.add(letter);
    std::mt19937 random(7);
    while (builder_.merges.size() < 60) {
      const std::string& left = builder_.tokens[random() % builder_.tokens.size()];
      const std::string& right = builder_.tokens[random() % builder_.tokens.size()];
      const std::string joined = left + right;
      if (joined.size() > 9 || count(joined) != 0) continue;
      builder_.add_merge(std::string(left), std::string(right));
    }
  }

  [[nodiscard]] long count(const std::string& text) const {
    return std::count(builder_.tokens.begin(), builder_.tokens.end(), text);
  }

  testing_vocabulary::Builder builder_;
};

TEST_F(BpeMergerTest, AgreesWithTheDefinitionOnShortAndLongWords) {
  const auto vocabulary = Vocabulary::load(builder_.metadata());
  ASSERT_TRUE(vocabulary) << vocabulary.error().to_string();
  const auto merger = BpeMerger::create(*vocabulary, builder_.merges);
  ASSERT_TRUE(merger) << merger.error().to_string();
  BpeMerger::Scratch scratch;
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    const std::size_t length = 1 + random() % (round % 4 == 0 ? 160 : 40);
    std::vector<std::string> letters;
    std::vector<TokenId> ids;
    for (std::size_t i = 0; i < length; ++i) {
      ids.push_back(static_cast<TokenId>(random() % 4));
      letters.push_back(vocabulary->text(ids.back()));
    }

    merger->merge(ids, scratch);

    std::vector<std::string> merged;
    for (const TokenId id : ids) merged.push_back(vocabulary->text(id));
    ASSERT_EQ(merged, merge_slowly(letters, builder_.merges)) << "round " << round;
  }
}

TEST_F(BpeMergerTest, KeepsWhatTheVocabularyCannotSpell) {
  const auto vocabulary = Vocabulary::load(builder_.metadata());
  const auto merger = BpeMerger::create(*vocabulary, builder_.merges);
  BpeMerger::Scratch scratch;
  std::vector<TokenId> ids(100, kNoToken);

  merger->merge(ids, scratch);

  EXPECT_EQ(ids, std::vector<TokenId>(100, kNoToken));
}

}  // namespace
}  // namespace conclave::tokenizer
