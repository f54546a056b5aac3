#include "conclave/model/step_plan.hpp"

#include <gtest/gtest.h>

#include <map>
#include <utility>
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

  // Each row `times` times; rows of a run are one sequence's, in order.
  template <class Runs>
  void check(const Runs& runs, int times) const {
    std::vector<int> seen(places.size());
    for (const RowRun& run : runs) {
      for (std::uint32_t row = run.first; row < run.first + run.count; ++row) {
        ASSERT_LT(row, seen.size());
        ++seen[row];
        EXPECT_EQ(places[row].blocks.data(), places[run.first].blocks.data());
        EXPECT_EQ(places[row].position, places[run.first].position + row - run.first);
      }
    }
    EXPECT_EQ(seen, std::vector<int>(places.size(), times));
  }

  // Each row with each query head once.
  void check_tasks(const ModelConfig& config) const {
    const std::uint32_t heads = config.attention.heads;
    const std::uint32_t group = heads / config.attention.kv_heads;
    std::vector<RowRun> runs;
    std::vector<int> seen(heads);
    for (const AttentionTask& task : plan.tasks()) {
      EXPECT_LE(task.rows.count * task.kv_count * task.count, kernels::kTileQueries);
      for (std::uint32_t kv = task.kv_first; kv < task.kv_first + task.kv_count; ++kv) {
        for (std::uint32_t head = task.first; head < task.first + task.count; ++head) {
          ASSERT_LT(head, group);
          ASSERT_LT(kv, config.attention.kv_heads);
          seen[kv * group + head] += static_cast<int>(task.rows.count);
          runs.push_back(task.rows);
        }
      }
    }
    check(runs, static_cast<int>(heads));
    EXPECT_EQ(seen, std::vector<int>(heads, static_cast<int>(places.size())));
  }

  std::vector<std::vector<KvBlockId>> tables;
  std::vector<RowPlace> places;
  StepPlan plan;
};

TEST(StepPlanTest, ARunOfBlocksLiesInOneBlock) {
  const Step step(config_of("qwen3moe", 8, 2), {{5, 40}, {15, 17}, {7, 8}}, 2);
  step.check(step.plan.blocks(), 1);
  for (const RowRun& run : step.plan.blocks()) {
    const std::uint32_t first = step.places[run.first].position;
    EXPECT_EQ(first / kKvBlockTokens, (first + run.count - 1) / kKvBlockTokens);
  }
  EXPECT_EQ(step.plan.blocks().size(), 3u + 2u + 1u);
}

TEST(StepPlanTest, TasksHaveEachRowWithEachHeadOnce) {
  constexpr std::pair<std::uint32_t, std::uint32_t> kHeads[] = {
      {8, 2}, {24, 1}, {5, 5}, {16, 16}, {64, 64}};
  const std::vector<Step::Rows> rows = {{0, 40}, {99, 100}, {300, 301}};
  for (const unsigned threads : {1u, 2u, 7u, 100u}) {
    for (const auto& [heads, kv_heads] : kHeads) {
      const ModelConfig config = config_of("qwen3moe", heads, kv_heads);
      Step(config, rows, threads).check_tasks(config);
    }
    const ModelConfig latent = config_of("deepseek2", 128, 1);
    Step(latent, rows, threads).check_tasks(latent);
  }
}

TEST(StepPlanTest, TasksHaveAsManyRowsOrHeadsAsQueriesFit) {
  const Step step(config_of("qwen3moe", 8, 2), {{0, 40}, {99, 100}}, 1);
  std::map<std::uint32_t, int> tasks;  // by rows
  for (const AttentionTask& task : step.plan.tasks()) {
    EXPECT_EQ(task.count, 4u);
    EXPECT_EQ(task.kv_count, task.rows.count == 1 ? 2u : 1u);
    ++tasks[task.rows.count];
  }
  EXPECT_EQ(tasks, (std::map<std::uint32_t, int>{{1, 1}, {4, 20}}));
}

std::uint64_t work_of(const Step& step, const AttentionTask& task) {
  const std::uint32_t end = step.places[task.rows.first].position + task.rows.count;
  return std::uint64_t{task.rows.count} * end * task.kv_count * task.count;
}

TEST(StepPlanTest, TheMostWorkComesFirst) {
  const Step step(config_of("qwen3moe", 8, 8), {{100, 101}, {2000, 2001}, {0, 64}, {480, 512}}, 2);
  for (std::size_t i = 1; i < step.plan.tasks().size(); ++i) {
    EXPECT_GE(work_of(step, step.plan.tasks()[i - 1]), work_of(step, step.plan.tasks()[i]));
  }
}

TEST(StepPlanTest, ALongSequenceIsSharedByThreads) {
  const Step step(config_of("qwen3moe", 16, 16), {{32000, 32001}, {200, 201}, {200, 201}}, 2);
  std::uint64_t all = 0;
  for (const AttentionTask& task : step.plan.tasks()) all += work_of(step, task);
  EXPECT_LE(work_of(step, step.plan.tasks()[0]), all / 8);
  EXPECT_EQ(step.plan.tasks().back().kv_count, 16u);  // of a short one
}

// Query heads of the tasks of one row.
std::uint32_t heads_of(const char* architecture, std::uint32_t heads, std::uint32_t kv_heads,
                       unsigned threads) {
  return Step(config_of(architecture, heads, kv_heads), {{0, 1}}, threads).plan.tasks()[0].count;
}

TEST(StepPlanTest, ManyHeadsAreCutEvenly) {
  EXPECT_EQ(heads_of("qwen3moe", 24, 1, 1), 12u);
  EXPECT_EQ(heads_of("deepseek2", 128, 1, 1), 32u);
}

TEST(StepPlanTest, AFewRowsAreSpreadOverManyThreads) {
  EXPECT_EQ(heads_of("qwen3moe", 32, 4, 4), 8u);
  EXPECT_EQ(heads_of("qwen3moe", 32, 4, 8), 4u);
  EXPECT_EQ(heads_of("qwen3moe", 32, 4, 1000), 1u);
}

// KV heads come first: none of them is read twice for it.
TEST(StepPlanTest, KvHeadsOfAFewRowsAreSpreadOverThreads) {
  const ModelConfig config = config_of("qwen3moe", 16, 16);
  const auto kv_heads = [&](std::uint32_t sequences, unsigned threads) {
    const std::vector<Step::Rows> rows(sequences, {10, 11});
    return Step(config, rows, threads).plan.tasks()[0].kv_count;
  };
  EXPECT_EQ(kv_heads(32, 2), 16u);
  EXPECT_EQ(kv_heads(1, 2), 2u);
  EXPECT_EQ(kv_heads(1, 1000), 1u);
}

}  // namespace
}  // namespace conclave::model
