// The one attention function: see attention.hpp. A task is a tile of queries.
#include "conclave/model/attention.hpp"

namespace conclave::model {
namespace {

void attend_tile(const kernels::KernelTable& kernels, const AttendCall& call,
                 const AttentionTask& task, float* room) {
  const AttentionConfig& attention = call.config.attention;
  const std::uint32_t group = attention.heads / attention.kv_heads;
  const std::uint32_t window = call.config.window(call.layer);
  const KvPool& pool = *call.rows.pool;
  kernels::TileQuery queries[kernels::kTileQueries];
  std::size_t count = 0;
  for (std::uint32_t kv = task.kv_first; kv < task.kv_first + task.kv_count; ++kv) {
    for (std::uint32_t row = task.rows.first; row < task.rows.first + task.rows.count; ++row) {
      const std::uint32_t end = call.rows.places[row].position + 1;
      const std::uint32_t begin = window != 0 && end > window ? end - window : 0;
      const std::uint32_t first = kv * group + task.first;
      for (std::uint32_t head = first; head < first + task.count; ++head) {
        const std::size_t at = std::size_t{row} * attention.heads + head;
        queries[count++] = {call.q + at * attention.key_dim, call.out + at * attention.value_dim,
                            begin, end, call.sinks.empty() ? nullptr : &call.sinks[head]};
      }
    }
  }
  kernels.attend({pool.layout(), pool.head(0, call.layer, task.kv_first), pool.block_bytes(),
                  call.rows.places[task.rows.first].blocks.data(), task.kv_count, queries, count,
                  attention.scale, room});
}

}  // namespace

void attend(const kernels::Compute& compute, const AttendCall& call) {
  StepPlan& plan = *call.rows.plan;
  compute.pool.for_each(plan.tasks().size(), [&](std::size_t i, unsigned thread) {
    attend_tile(compute.kernels, call, plan.tasks()[i], plan.room(thread));
  });
}

}  // namespace conclave::model
