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

TEST_F(ForwardTest, RowsThatWantNoLogitsLeaveThoseOfOthersAsTheyAre) {
  const std::size_t vocab = demo().config().vocab;
  std::vector<StepRow> step = rows(50, reads);
  for (const StepRow& row : rows(3, decodes)) step.push_back(row);
  const std::vector<float> expected = run(step);
  const std::vector<float> expected_next = run(rows(1, reads, 50));

  const std::vector<std::size_t> wanting = {0, 17, 49, 51};
  for (StepRow& row : step) row.wants_logits = false;
  for (const std::size_t i : wanting) step[i].wants_logits = true;
  const std::vector<float> some = run(step);
  ASSERT_EQ(some.size(), wanting.size() * vocab);
  for (std::size_t i = 0; i < wanting.size(); ++i) {
    EXPECT_TRUE(same_bits(std::span(some).subspan(i * vocab, vocab),
                          std::span(expected).subspan(wanting[i] * vocab, vocab)))
        << "row " << wanting[i];
  }
  EXPECT_TRUE(same_bits(run(rows(1, reads, 50)), expected_next)) << "keys and values are all there";

  for (StepRow& row : step) row.wants_logits = false;
  EXPECT_TRUE(run(step).empty());
  EXPECT_TRUE(same_bits(run(rows(1, reads, 50)), expected_next));
}

TEST_F(ForwardTest, TwoMicroBatchesComputeTheSameBits) {
  const std::size_t vocab = demo().config().vocab;
  const std::uint32_t layers = demo().config().layers;
  std::vector<StepRow> step = rows(51, reads);
  for (const StepRow& row : rows(6, decodes)) step.push_back(row);
  for (const std::vector<std::size_t>& wanting :
       std::vector<std::vector<std::size_t>>{{}, {3}, {56}, {0, 27, 28, 29, 50, 56}}) {
    for (StepRow& row : step) row.wants_logits = false;
    for (const std::size_t i : wanting) step[i].wants_logits = true;
    const std::vector<float> expected = run(step);
    const StepCost cost = forward.cost(0, step.size());
    const auto logits = forward.step(step, {}, 2).value();
    EXPECT_EQ(logits.size(), wanting.size() * vocab);
    EXPECT_TRUE(same_bits(logits, expected));
    EXPECT_EQ(forward.cost(0, step.size()).pairs, cost.pairs);
  }

  // With rows that pass some layers only, in steps of either kind.
  const std::vector<StepRow> prompt = rows(50, reads);
  const std::vector<float> expected = run(prompt);
  const std::vector<float> expected_decodes = run(rows(20, decodes));
  std::uint32_t decoding = 0;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    std::vector<StepRow> mixed = rows(4, decodes, decoding);
    for (StepRow row : prompt) {
      row.wants_logits = layer + 1 == layers;
      mixed.push_back(row);
    }
    const auto logits =
        forward.step(mixed, Passage{4, layer, layer + 1}, layer % 3 == 2 ? 1 : 2).value();
    EXPECT_TRUE(same_bits(logits.first(4 * vocab),
                          std::span(expected_decodes).subspan(decoding * vocab, 4 * vocab)));
    if (layer + 1 == layers) {
      EXPECT_TRUE(same_bits(logits.subspan(4 * vocab), expected));
    }
    decoding += 4;
  }
}

TEST_F(ForwardTest, GatesAMicroBatchAgainWhoseExpertsTurnOutToBeAbsent) {
  const std::uint32_t experts = demo().config().gate.experts;
  std::vector<StepRow> step = rows(30, reads);
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<std::uint32_t>> replaced;
  for (const std::size_t micro_batches : {1u, 2u}) {
    FaultyExperts faulty;
    for (std::uint32_t e = 0; e < experts; e += 2) faulty.lose(1, e);
    Forward degraded(demo().backbone(), faulty, *pool);
    const auto out = degraded.step(step, {}, micro_batches).value();
    logits.emplace_back(out.begin(), out.end());
    replaced.emplace_back(degraded.replaced().begin(), degraded.replaced().end());
  }
  EXPECT_TRUE(same_bits(logits[0], logits[1]));
  EXPECT_EQ(replaced[0], replaced[1]);
  EXPECT_GT(std::accumulate(replaced[0].begin(), replaced[0].end(), 0u), 0u);
}

TEST_F(ForwardTest, GoesOnAfterAMicroBatchHasFailed) {
  FaultyExperts faulty;
  Forward failing(demo().backbone(), faulty, *pool);
  const std::vector<StepRow> step = rows(30, reads);
  const std::vector<float> expected = run(step);
  for (const int calls : {1, 2, 3}) {
    faulty.fail_calls = calls;
    for (int i = 0; i < calls; ++i) EXPECT_FALSE(failing.step(step, {}, 2));
    EXPECT_TRUE(same_bits(failing.step(step, {}, 2).value(), expected));
  }
}

TEST_F(ForwardTest, TellsWhatRowsCost) {
  const std::uint32_t used = demo().config().gate.used;
  const std::uint32_t layers = demo().config().layers;
  std::vector<StepRow> step = rows(2, decodes);
  for (StepRow row : rows(30, reads)) {
    row.wants_logits = false;
    step.push_back(row);
  }
  ASSERT_TRUE(forward.step(step, Passage{2, 0, 1}));
  EXPECT_EQ(forward.cost(0, 1).pairs, used * layers);
  EXPECT_EQ(forward.cost(0, 2).pairs, 2u * used * layers);
  EXPECT_EQ(forward.cost(2, 30).pairs, 30u * used);

  ASSERT_TRUE(forward.step(step));
  EXPECT_EQ(forward.cost(0, 2).pairs, 2u * used * layers);
  EXPECT_EQ(forward.cost(2, 30).pairs, 30u * used * (layers - 1)) << "no logits, no last layer";
}

TEST_F(ForwardTest, TellsOfTheRightRowsThatTheLastLayerDidWithoutExperts) {
  FaultyExperts faulty;
  const std::uint32_t last = demo().config().layers - 1;
  for (std::uint32_t e = 0; e < demo().config().gate.experts; e += 2) faulty.lose(last, e);
  Forward degraded(demo().backbone(), faulty, *pool);
  std::vector<StepRow> step = rows(30, reads);
  ASSERT_TRUE(degraded.step(step));
  const std::vector<std::uint32_t> all(degraded.replaced().begin(), degraded.replaced().end());
  ASSERT_EQ(all.size(), step.size());

  for (StepRow& row : step) row.wants_logits = row.position % 3 == 2;
  ASSERT_TRUE(degraded.step(step));
  ASSERT_EQ(degraded.replaced().size(), step.size());
  std::uint32_t sum = 0;
  for (std::size_t row = 0; row < step.size(); ++row) {
    EXPECT_EQ(degraded.replaced()[row], step[row].wants_logits ? all[row] : 0u) << "row " << row;
    sum += degraded.replaced()[row];
  }
  EXPECT_GT(sum, 0u);
}

TEST_F(ForwardTest, ObserversSeeRowsThatWantNoLogitsInEveryLayer) {
  PairCounter counter;
  std::vector<StepRow> step = rows(10, reads);
  const std::vector<float> expected = run(rows(10, reads));
  for (StepRow& row : step) row.wants_logits = row.position == 9;
  forward.observe(&counter);
  const std::size_t vocab = demo().config().vocab;
  EXPECT_TRUE(same_bits(run(step), std::span(expected).last(vocab)));
  EXPECT_EQ(counter.pairs, 10u * demo().config().gate.used * demo().config().layers);
}

}  // namespace
}  // namespace conclave::engine
