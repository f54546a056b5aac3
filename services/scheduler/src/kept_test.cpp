#include "kept.hpp"

#include <gtest/gtest.h>

#include <random>

#include "conclave/wire/limits.hpp"

namespace conclave::scheduler {
namespace {

using base::ErrorCode;

wire::ExpertBits bits_of(std::uint32_t layers, std::uint32_t experts,
                         std::initializer_list<std::pair<std::uint32_t, std::uint32_t>> set) {
  wire::ExpertBits bits(layers, experts);
  for (const auto& [layer, index] : set) bits.set(layer, index);
  return bits;
}

Kept example() {
  Kept kept;
  kept.standings = {{"w1", Standing::kCordoned}, {"w\"2", Standing::kDraining}};
  KeptModel& model = kept.models["m:1"];
  model.pins = {{2, 3, placement::Pin::Kind::kNever, "cuda", {"w1", "w2"}},
                {placement::Pin::kAll, 0, placement::Pin::Kind::kOnly, "", {"w3"}}};
  model.placements = {
      {"first", {{"w1", bits_of(3, 4, {{0, 0}, {2, 3}})}}},
      {"second", {{"w1", bits_of(3, 4, {{1, 1}, {1, 2}})}, {"w2", bits_of(3, 4, {{2, 2}})}}}};
  kept.models["other:7"];
  return kept;
}

TEST(KeptTest, ComesBackAsItWas) {
  EXPECT_EQ(from_document(to_document(example(), wire::kStateBytesMax)).value(), example());
  EXPECT_EQ(from_document("").value(), Kept{});
}

TEST(KeptTest, LeavesOldPlacementsOutWhereThereIsNoRoom) {
  const Kept kept = example();
  const std::size_t whole = to_document(kept, wire::kStateBytesMax).size();

  const Kept less = from_document(to_document(kept, whole - 1)).value();
  const Kept least = from_document(to_document(kept, 0)).value();

  ASSERT_EQ(less.models.at("m:1").placements.size(), 1u);
  EXPECT_EQ(less.models.at("m:1").placements[0].explanation, "second");
  EXPECT_TRUE(least.models.at("m:1").placements.empty());
  EXPECT_EQ(least.models.at("m:1").pins, kept.models.at("m:1").pins);
  EXPECT_EQ(least.standings, kept.standings);
}

// DeepSeek-V3 with an eighth of spare copies on 320 workers.
TEST(KeptTest, TheLargestFleetsPlacementHasRoom) {
  std::mt19937 random(7);
  Kept kept;
  Placement placement{"spread", {}};
  for (int i = 0; i < 320; ++i) {
    placement.targets.emplace("worker-" + std::to_string(i), wire::ExpertBits(61, 256));
  }
  for (std::uint32_t copy = 0; copy < 58 * 256 * 9 / 8; ++copy) {
    auto worker = placement.targets.find("worker-" + std::to_string(random() % 320));
    worker->second.set(3 + copy / 256 % 58, copy % 256);
  }
  kept.models["deepseek-v3:1"].placements = {placement, placement};

  EXPECT_EQ(from_document(to_document(kept, wire::kStateBytesMax)).value(), kept);
}

TEST(KeptTest, RefusesWhatItDidNotWrite) {
  const std::string good = to_document(example(), wire::kStateBytesMax);
  const auto changed = [&good](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  for (const std::string& bad :
       {std::string("x"), std::string("[]"), std::string("{}"), good.substr(0, good.size() / 2),
        changed("\"format\":1", "\"format\":2"), changed("cordoned", "asleep"),
        changed("never", "maybe"), changed("\"layers\":3", "\"layers\":4000000000"),
        changed("\"1,11\"", "\"1,12\""), changed("\"1,11\"", "\"0\""),
        changed("\"1,11\"", "\"-1\"")}) {
    const auto kept = from_document(bad);
    ASSERT_FALSE(kept) << bad;
    EXPECT_EQ(kept.error().code, ErrorCode::kCorruptData);
  }
}

}  // namespace
}  // namespace conclave::scheduler
