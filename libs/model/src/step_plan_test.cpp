#include "conclave/model/step_plan.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace conclave::model {
namespace {

ModelConfig config_of(const char* architecture, std::uint32_t heads, std::uint32_t kv_heads) {
  ModelConfig config;
  config.architecture = find_architecture(architecture).value();
  config.layers = 1;
  config.attention.heads = heads;
  config.attention.kv_heads = kv_heads;
  config.attention.key_dim = 48;
  config.attention.value_dim = 32;
  return config;
}

// A step of rows [begin, end) of each sequence, in the order given.
struct Step {
  struct Rows {
    std::uint32_t begin, end;
  };
  Step(const ModelConfig& config, const std::vector<Rows>& sequences, unsigned threads) {
    for (const Rows& rows : sequences) {
      tables.emplace_back(kv_blocks_of(rows.end), 0);
      for (std::uint32_t p = rows.begin; p < rows.end; ++p) places.push_back({tables.back(), p});
    }
    const auto pool = KvPool::create(config, KvType::kF16, 1).value();
    plan.build(config, places, *pool, threads);
  }

  // Each row once; rows of a run are one sequence's, in order.
  void check(std::span<const RowRun> runs) const {
    std::vector<int> seen(places.size());
    for (const RowRun& run : runs) {
      for (std::uint32_t row = run.first; row < run.first + run.count; ++row) {
        ASSERT_LT(row, seen.size());
        ++seen[row];
        EXPECT_EQ(places[row].blocks.data(), places[run.first].blocks.data());
        EXPECT_EQ(places[row].position, places[run.first].position + row - run.first);
      }
    }
    EXPECT_EQ(seen, std::vector<int>(places.size(), 1));
  }

  std::vector<std::vector<KvBlockId>> tables;
  std::vector<RowPlace> places;
  StepPlan plan;
};

TEST(StepPlanTest, ARunOfBlocksLiesInOneBlock) {
  const Step step(config_of("qwen3moe", 8, 2), {{5, 40}, {15, 17}, {7, 8}}, 2);
  step.check(step.plan.blocks());
  for (const RowRun& run : step.plan.blocks()) {
    const std::uint32_t first = step.places[run.first].position;
    EXPECT_EQ(first / kKvBlockTokens, (first + run.count - 1) / kKvBlockTokens);
  }
  EXPECT_EQ(step.plan.blocks().size(), 3u + 2u + 1u);
}

TEST(StepPlanTest, TilesHoldAsManyRowsAsQueriesFit) {
  const Step step(config_of("qwen3moe", 8, 2), {{0, 40}, {99, 100}}, 2);
  step.check(step.plan.tiles());
  EXPECT_EQ(step.plan.tile_heads(), 4u);
  for (const RowRun& run : step.plan.tiles()) {
    EXPECT_LE(run.count * step.plan.tile_heads(), kernels::kTileQueries);
  }
  EXPECT_EQ(step.plan.tiles().size(), 10u + 1u);
}

TEST(StepPlanTest, TheMostWorkComesFirst) {
  const Step step(config_of("qwen3moe", 8, 8), {{100, 101}, {2000, 2001}, {0, 64}}, 2);
  const auto work = [&](const RowRun& run) {
    return run.count * (step.places[run.first].position + run.count);
  };
  for (std::size_t i = 1; i < step.plan.tiles().size(); ++i) {
    EXPECT_GE(work(step.plan.tiles()[i - 1]), work(step.plan.tiles()[i]));
  }
}

TEST(StepPlanTest, ManyHeadsAreCutEvenly) {
  EXPECT_EQ(Step(config_of("qwen3moe", 24, 1), {{0, 1}}, 1).plan.tile_heads(), 12u);
  EXPECT_EQ(Step(config_of("deepseek2", 128, 1), {{0, 1}}, 1).plan.tile_heads(), 32u);
}

TEST(StepPlanTest, AFewRowsAreSpreadOverManyThreads) {
  EXPECT_EQ(Step(config_of("qwen3moe", 32, 4), {{0, 1}}, 4).plan.tile_heads(), 8u);
  EXPECT_EQ(Step(config_of("qwen3moe", 32, 4), {{0, 1}}, 8).plan.tile_heads(), 4u);
  EXPECT_EQ(Step(config_of("qwen3moe", 32, 4), {{0, 1}}, 1000).plan.tile_heads(), 1u);
}

}  // namespace
}  // namespace conclave::model
