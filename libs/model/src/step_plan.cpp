#include "conclave/model/step_plan.hpp"

#include <algorithm>
#include <iterator>

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

}  // namespace

void StepPlan::build(const ModelConfig& config, std::span<const RowPlace> places,
                     const KvPool& pool, unsigned threads) {
  const AttentionConfig& attention = config.attention;
  const std::uint32_t group = attention.heads / attention.kv_heads;
  cut(places, kKvBlockTokens, blocks_);

  // Values that must be transposed out of keys cost the less the more queries share them; else a
  // tile is what registers hold.
  const auto tile = static_cast<std::uint32_t>(
      pool.layout().values_in_keys ? kernels::kTileQueries : kernels::kTileQueries / 2);
  const auto tasks = [&](std::uint32_t heads) {
    return tiles_.size() * attention.kv_heads * ((group + heads - 1) / heads);
  };
  std::uint32_t parts = (group + tile - 1) / tile;
  tile_heads_ = (group + parts - 1) / parts;
  cut(places, std::max(1u, tile / tile_heads_), tiles_);
  // Few rows: heads go to more threads, at the price of reading their keys and values again.
  while (tasks(tile_heads_) < threads && tile_heads_ > 1) {
    ++parts;
    tile_heads_ = (group + parts - 1) / parts;
  }

  const auto work = [&](const RowRun& run) {
    return std::uint64_t{run.count} * (places[run.first].position + run.count);
  };
  std::sort(tiles_.begin(), tiles_.end(), [&](const RowRun& a, const RowRun& b) {
    return work(a) != work(b) ? work(a) > work(b) : a.first < b.first;
  });

  room_floats_ = kernels::attention_room(pool.layout());
  if (room_.size() < room_floats_ * threads) room_.resize(room_floats_ * threads);
}

}  // namespace conclave::model
