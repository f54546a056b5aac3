#include "conclave/model/step_plan.hpp"

#include <algorithm>
#include <tuple>

namespace conclave::model {
namespace {

// Appends the runs of rows of one sequence, cut wherever `position % length` is 0.
void cut(std::span<const RowPlace> places, std::uint32_t length, std::vector<RowRun>& runs) {
  runs.clear();
  for (std::uint32_t row = 0; row < places.size(); ++row) {
    const RowPlace& place = places[row];
    const bool goes_on = row > 0 && place.blocks.data() == places[row - 1].blocks.data() &&
                         place.position == places[row - 1].position + 1 &&
                         place.position % length != 0;
    if (goes_on) {
      ++runs.back().count;
    } else {
      runs.push_back({row, 1});
    }
  }
}

// Tasks for each thread, at least: who is done early takes another one.
constexpr unsigned kTasksOfThread = 4;

// Parts of n of at most `most`, and the size of the larger ones if they are even.
std::uint32_t parts_of(std::uint32_t n, std::uint32_t most) { return (n + most - 1) / most; }
std::uint32_t even_part(std::uint32_t n, std::uint32_t most) {
  return parts_of(n, parts_of(n, most));
}

}  // namespace

void StepPlan::build(const ModelConfig& config, std::span<const RowPlace> places,
                     const KvPool& pool, unsigned threads) {
  cut(places, kKvBlockTokens, blocks_);
  build_tasks(config.attention, places, pool.layout(), threads);
  room_floats_ = kernels::attention_room(pool.layout());
  if (room_.size() < room_floats_ * threads) room_.resize(room_floats_ * threads);
}

void StepPlan::build_tasks(const AttentionConfig& attention, std::span<const RowPlace> places,
                           const kernels::KvLayout& layout, unsigned threads) {
  // Values that must be transposed out of keys cost the less the more queries share them; else a
  // tile is what registers hold.
  const auto tile = static_cast<std::uint32_t>(layout.values_in_keys ? kernels::kTileQueries
                                                                     : kernels::kTileQueries / 2);
  const std::uint32_t group = attention.heads / attention.kv_heads;
  std::uint32_t heads = even_part(group, tile);
  cut(places, tile / heads, tiles_);
  const auto work = [&](const RowRun& run) {
    return std::uint64_t{run.count} * (places[run.first].position + run.count);
  };
  std::uint64_t all = 0;
  for (const RowRun& run : tiles_) all += work(run) * attention.kv_heads;
  // A tile has as many KV heads as queries fit, but no more work than a part of what each thread
  // has to do, so that one long sequence is not one thread's.
  const std::uint64_t most = all / (std::uint64_t{threads} * kTasksOfThread);
  const auto kv_heads = [&](const RowRun& run) {
    if (layout.values_in_keys) return 1u;
    const std::uint64_t fit = std::min<std::uint64_t>(tile / (run.count * heads), most / work(run));
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(fit, 1, attention.kv_heads));
  };
  const auto tasks = [&] {
    std::size_t count = 0;
    for (const RowRun& run : tiles_) {
      count += parts_of(attention.kv_heads, kv_heads(run)) * parts_of(group, heads);
    }
    return count;
  };
  // Few rows: heads that share a KV head go to more threads, at the price of reading its keys and
  // values again.
  while (tasks() < threads && heads > 1) heads = even_part(group, heads - 1);

  tasks_.clear();
  for (const RowRun& run : tiles_) {
    const std::uint32_t kv_step = kv_heads(run);
    for (std::uint32_t kv = 0; kv < attention.kv_heads; kv += kv_step) {
      for (std::uint32_t head = 0; head < group; head += heads) {
        tasks_.push_back({run, kv, std::min(kv_step, attention.kv_heads - kv), head,
                          std::min(heads, group - head)});
      }
    }
  }
  const auto work_of = [&](const AttentionTask& task) {
    return work(task.rows) * task.kv_count * task.count;
  };
  const auto place_of = [](const AttentionTask& task) {
    return std::tuple(task.rows.first, task.kv_first, task.first);
  };
  std::ranges::sort(tasks_, [&](const AttentionTask& a, const AttentionTask& b) {
    return work_of(a) != work_of(b) ? work_of(a) > work_of(b) : place_of(a) < place_of(b);
  });
}

}  // namespace conclave::model
