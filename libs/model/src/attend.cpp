// The one attention function: see attention.hpp. A task is a tile of queries of one KV head.
#include <algorithm>

#include "conclave/model/attention.hpp"

namespace conclave::model {
namespace {

// A run of rows, and heads [head, head + heads) of the KV head they share.
struct Task {
  RowRun rows;
  std::uint32_t kv_head;
  std::uint32_t head;
  std::uint32_t heads;
};

void attend_tile(const kernels::KernelTable& kernels, const AttendCall& call, const Task& task,
                 float* room) {
  const AttentionConfig& attention = call.config.attention;
  const std::uint32_t window = call.config.window(call.layer);
  const KvPool& pool = *call.rows.pool;
  kernels::TileQuery queries[kernels::kTileQueries];
  std::size_t count = 0;
  for (std::uint32_t row = task.rows.first; row < task.rows.first + task.rows.count; ++row) {
    const std::uint32_t end = call.rows.places[row].position + 1;
    const std::uint32_t begin = window != 0 && end > window ? end - window : 0;
    for (std::uint32_t head = task.head; head < task.head + task.heads; ++head) {
      const std::size_t at = std::size_t{row} * attention.heads + head;
      queries[count++] = {call.q + at * attention.key_dim, call.out + at * attention.value_dim,
                          begin, end, call.sinks.empty() ? nullptr : &call.sinks[head]};
    }
  }
  kernels.attend({pool.layout(), pool.head(0, call.layer, task.kv_head), pool.block_bytes(),
                  call.rows.places[task.rows.first].blocks.data(), queries, count, attention.scale,
                  room});
}

}  // namespace

void attend(const kernels::Compute& compute, const AttendCall& call) {
  const AttentionConfig& attention = call.config.attention;
  StepPlan& plan = *call.rows.plan;
  const std::uint32_t group = attention.heads / attention.kv_heads;
  const std::uint32_t parts = (group + plan.tile_heads() - 1) / plan.tile_heads();
  const std::size_t tasks_of_tile = std::size_t{attention.kv_heads} * parts;
  compute.pool.for_each(plan.tiles().size() * tasks_of_tile, [&](std::size_t i, unsigned thread) {
    const auto in_tile = static_cast<std::uint32_t>(i % tasks_of_tile);
    const std::uint32_t kv_head = in_tile / parts;
    const std::uint32_t first = in_tile % parts * plan.tile_heads();
    const std::uint32_t heads = std::min(plan.tile_heads(), group - first);
    attend_tile(compute.kernels, call,
                {plan.tiles()[i / tasks_of_tile], kv_head, kv_head * group + first, heads},
                plan.room(thread));
  });
}

}  // namespace conclave::model
