// A pass of a model over rows, in one step and in several.
#include "conclave/engine/forward.hpp"

#include <numeric>
#include <random>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;

// Rows of two sequences: one that is read, and one that decodes meanwhile.
struct ForwardTest : testing::Test {
  static std::vector<model::KvBlockId> blocks_from(model::KvBlockId first) {
    std::vector<model::KvBlockId> blocks(8);
    std::iota(blocks.begin(), blocks.end(), first);
    return blocks;
  }
  static std::vector<StepRow> rows(std::uint32_t count, model::KvTable blocks,
                                   std::uint32_t from = 0) {
    std::vector<StepRow> rows;
    for (std::uint32_t i = from; i < from + count; ++i) {
      rows.push_back({static_cast<std::int32_t>(40 + i * i % 50), i, blocks, true});
    }
    return rows;
  }
  std::vector<float> run(std::span<const StepRow> rows) {
    const auto logits = forward.step(rows).value();
    return {logits.begin(), logits.end()};
  }

  std::unique_ptr<model::KvPool> pool =
      model::KvPool::create(demo().config(), model::KvType::kF16, 16).value();
  Forward forward{demo().backbone(), demo().experts(), *pool};
  std::vector<model::KvBlockId> reads = blocks_from(0);
  std::vector<model::KvBlockId> decodes = blocks_from(8);
};

TEST_F(ForwardTest, RowsThatPassLayersInSeveralStepsComputeTheSameBits) {
  const std::uint32_t layers = demo().config().layers;
  const std::size_t vocab = demo().config().vocab;
  const std::vector<StepRow> prompt = rows(50, reads);
  const std::vector<float> expected = run(prompt);
  const std::vector<float> expected_decodes = run(rows(20, decodes));
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::vector<float> decoded;
    std::uint32_t decoding = 0;
    for (std::uint32_t begin = 0; begin < layers;) {
      const auto some = [&](std::uint32_t most) {
        return static_cast<std::uint32_t>(random() % (most + 1));
      };
      const std::uint32_t end = begin + 1 + some(layers - begin - 1);
      // As many others as the draw says, none included.
      std::vector<StepRow> step = rows(some(2), decodes, decoding);
      decoding += static_cast<std::uint32_t>(step.size());
      const std::size_t first = step.size();
      for (StepRow row : prompt) {
        row.wants_logits = end == layers;
        step.push_back(row);
      }
      const auto logits = forward.step(step, Passage{first, begin, end}).value();
      decoded.insert(decoded.end(), logits.begin(),
                     logits.begin() + static_cast<std::ptrdiff_t>(first * vocab));
      if (end == layers) {
        EXPECT_TRUE(same_bits(logits.subspan(first * vocab), expected));
      }
      begin = end;
      if (some(1) == 1) {  // a step without it
        const std::vector<float> more = run(rows(1, decodes, decoding++));
        decoded.insert(decoded.end(), more.begin(), more.end());
      }
    }
    EXPECT_TRUE(same_bits(decoded, std::span(expected_decodes).first(decoded.size())));
  }
}

TEST_F(ForwardTest, TellsWhatRowsOfAPassageCost) {
  const std::uint32_t used = demo().config().gate.used;
  std::vector<StepRow> step = rows(2, decodes);
  for (StepRow row : rows(30, reads)) {
    row.wants_logits = false;
    step.push_back(row);
  }
  ASSERT_TRUE(forward.step(step, Passage{2, 0, 1}));
  EXPECT_EQ(forward.cost().pairs, 2u * used * demo().config().layers);
  EXPECT_EQ(forward.passage_cost().pairs, 30u * used);
}

}  // namespace
}  // namespace conclave::engine
