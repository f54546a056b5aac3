#include "conclave/model/expert_set.hpp"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "activation.hpp"
#include "row_loop.hpp"

namespace conclave::model {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

bool has_shape(const Linear& linear, std::size_t outputs, std::size_t inputs) {
  return linear.weight.outputs() == outputs && linear.weight.inputs() == inputs &&
         (linear.bias.empty() || linear.bias.size() == outputs);
}

std::size_t scale_block(const Linear& linear) { return kernels::scale_block(linear.weight.type()); }

// Tiles are made of so many outputs, or of whole blocks of the next product's rows if these are
// more.
constexpr std::size_t kUnit = kernels::kRowBlock;
static_assert(kUnit % kernels::kPanelOutputs == 0);

// An expert that is a large part of all is cut so that a layer of such ones has so many tiles of
// each stage for each thread: what the last ones to work wait for in the end is a small part of
// all.
constexpr std::size_t kTilesPerThread = 8;
// An expert is one task if so many of its kind are left for each thread: the last ones are cut, as
// far as their outputs can be, so that threads end together.
constexpr std::size_t kTasksLeft = 2;

// Reading an expert's weights takes as long as multiplying them with about so many rows.
constexpr std::size_t kLeastRows = 4;

// Inner rows that a task works on at once: gate and up products that were just written are read
// from the cache, and room is bounded. More than 64, which half of 64 experts top-8 exceed with 512
// rows: each part reads the expert's weights again.
constexpr std::size_t kInnerRows = 96;

// True if each `block` values of a row have one scale, bit by bit.
bool share_scales(const kernels::RowsView& x, std::size_t block) {
  const std::size_t step = block / kernels::kRowBlock;
  if (step == 1) return true;
  const std::size_t count = x.rows * (x.columns / kernels::kRowBlock);
  std::uint32_t differing = 0;
  for (std::size_t first = 0; first < count; first += step) {
    const auto bits = std::bit_cast<std::uint32_t>(x.scales[first]);
    for (std::size_t i = first + 1; i < first + step; ++i) {
      differing |= std::bit_cast<std::uint32_t>(x.scales[i]) ^ bits;
    }
  }
  return differing == 0;
}

std::size_t panels_of(std::size_t outputs) {
  return (outputs + kernels::kPanelOutputs - 1) / kernels::kPanelOutputs;
}

std::string name_of(ExpertId id) {
  return "expert " + std::to_string(id.index) + " of layer " + std::to_string(id.layer);
}

}  // namespace

ExpertSet::ExpertSet(const ModelConfig& config, const kernels::Compute& compute)
    : config_(config),
      compute_(compute),
      experts_(std::size_t{config.layers - config.dense_layers} * config.gate.experts),
      inner_done_(config.gate.experts) {}

const Expert* ExpertSet::find(ExpertId id) const {
  if (id.layer < config_.dense_layers || id.layer >= config_.layers ||
      id.index >= config_.gate.experts) {
    return nullptr;
  }
  return experts_[std::size_t{id.layer - config_.dense_layers} * config_.gate.experts + id.index]
      .get();
}

Status ExpertSet::insert(ExpertId id, Expert expert) {
  if (id.layer < config_.dense_layers || id.layer >= config_.layers ||
      id.index >= config_.gate.experts) {
    return fail(ErrorCode::kInvalidArgument, "the model has no " + name_of(id));
  }
  if (!has_shape(expert.gate, config_.expert_ffn, config_.hidden) ||
      !has_shape(expert.up, config_.expert_ffn, config_.hidden) ||
      !has_shape(expert.down, config_.hidden, config_.expert_ffn)) {
    return fail(ErrorCode::kInvalidArgument, name_of(id) + " has not the shape of the model's");
  }
  erase(id);
  bytes_ += expert.bytes();
  ++size_;
  experts_[std::size_t{id.layer - config_.dense_layers} * config_.gate.experts + id.index] =
      std::make_unique<Expert>(std::move(expert));
  return {};
}

bool ExpertSet::erase(ExpertId id) {
  const Expert* hosted = find(id);
  if (hosted == nullptr) return false;
  bytes_ -= hosted->bytes();
  --size_;
  experts_[std::size_t{id.layer - config_.dense_layers} * config_.gate.experts + id.index].reset();
  return true;
}

Status ExpertSet::run(std::uint32_t layer, const kernels::RowsView& x,
                      std::span<const ExpertPair> pairs, float* y) {
  CONCLAVE_TRY_VOID(group(layer, x, pairs));
  if (pairs.empty()) return {};
  kernels::RowsView rows = x;
  CONCLAVE_TRY_VOID(complete_rows(rows));
  make_room();
  plan();
  compute_.pool.for_each(
      tasks_.size(), [&](std::size_t i, unsigned thread) { run_task(tasks_[i], rows, thread, y); });
  return {};
}

// groups_ and rows_ from the pairs, which are checked on the way.
Status ExpertSet::group(std::uint32_t layer, const kernels::RowsView& x,
                        std::span<const ExpertPair> pairs) {
  if (layer < config_.dense_layers || layer >= config_.layers) {
    return fail(ErrorCode::kInvalidArgument,
                "layer " + std::to_string(layer) + " has no routed experts");
  }
  if (x.columns != config_.hidden) {
    return fail(ErrorCode::kInvalidArgument, "rows of " + std::to_string(x.columns) +
                                                 " values for a model of " +
                                                 std::to_string(config_.hidden));
  }
  groups_.clear();
  rows_.resize(pairs.size());
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const ExpertPair& pair = pairs[p];
    const bool same = p > 0 && pairs[p - 1].expert == pair.expert;
    const bool sorted =
        p == 0 || pairs[p - 1].expert < pair.expert || (same && pairs[p - 1].row <= pair.row);
    if (!sorted || pair.row >= x.rows || pair.expert >= config_.gate.experts) {
      return fail(ErrorCode::kInvalidArgument,
                  "pair " + std::to_string(p) + " (row " + std::to_string(pair.row) + ", expert " +
                      std::to_string(pair.expert) +
                      (sorted ? ") is out of range" : ") is unsorted"));
    }
    if (!same) {
      const Expert* expert = find({layer, pair.expert});
      if (expert == nullptr) {
        return fail(ErrorCode::kNotFound, name_of({layer, pair.expert}) + " is not hosted here");
      }
      groups_.push_back({expert, p, 0});
    }
    ++groups_.back().count;
    rows_[p] = pair.row;
  }
  return {};
}

// Sums that did not travel, as they would be a third of the bytes, and a check that every form that
// the groups need is there.
Status ExpertSet::complete_rows(kernels::RowsView& x) {
  RowForms needed;
  for (const Group& group : groups_) {
    needed.add(group.expert->gate.weight.type());
    needed.add(group.expert->up.weight.type());
  }
  if (needed.floats && x.values == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "the experts of this layer take float rows");
  }
  if (!needed.quantized()) return {};
  if (x.quants == nullptr || x.scales == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "the experts of this layer take 8-bit rows");
  }
  if (!share_scales(x, needed.scale_block)) {
    return fail(ErrorCode::kInvalidArgument,
                "the experts of this layer take 8-bit rows with one scale for " +
                    std::to_string(needed.scale_block) + " values");
  }
  if (x.sums.offsets == nullptr) {
    sums_.resize(x.rows, x.columns);
    each_row(compute_.pool, x.rows, x.columns / sizeof(float), [&](std::size_t row) {
      compute_.kernels.sum_row(x.quants + row * x.columns, x.columns, sums_.at(row));
    });
    x.sums = sums_.view();
  }
  return {};
}

void ExpertSet::make_room() {
  const std::size_t ffn = config_.expert_ffn;
  grow(products_, compute_.pool.threads() * 2 * kInnerRows * ffn);
  bool quantize = false;
  bool keep_floats = false;
  for (const Group& group : groups_) {
    (scale_block(group.expert->down) > 0 ? quantize : keep_floats) = true;
  }
  if (quantize) inner_.resize(rows_.size(), ffn);
  if (keep_floats) grow(floats_, rows_.size() * ffn);
}

// tasks_ in the order in which the pool hands them out: experts with many rows first. One that is a
// small part of what is left is a single task: its weights mostly lie behind each other, and its
// inner rows stay in a core's caches. Others are tiles, and those of the down product come behind
// so many other tasks that the inner rows are ready by then.
void ExpertSet::plan() {
  const std::size_t threads = compute_.pool.threads();
  const auto cost = [](const Group& group) { return std::max(group.count, kLeastRows); };
  std::size_t total = 0;
  for (const Group& group : groups_) total += cost(group);
  std::sort(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) {
    return a.count != b.count ? a.count > b.count : a.first < b.first;
  });

  tasks_.clear();
  std::size_t left = total;
  std::size_t next = 0;  // the first group whose down product is not planned
  const auto add_down = [&] {
    const Group& group = groups_[next];
    if (group.tiles > 1) add_tiles(next, Stage::kDown, group.tiles);
    ++next;
  };
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    const std::size_t share = (kTasksLeft * threads * cost(group) + left - 1) / left;
    group.tiles = share > 1 ? std::max(kTilesPerThread * threads * cost(group) / total, share) : 1;
    left -= cost(group);
    const std::size_t first = tasks_.size();
    if (group.tiles > 1) {
      add_tiles(g, Stage::kInner, group.tiles);
    } else {
      tasks_.push_back({g, Stage::kBoth, 0, 0});
    }
    group.inner_end = tasks_.size();
    group.inner_tiles = static_cast<std::uint32_t>(group.inner_end - first);
    inner_done_[g].store(0, std::memory_order_relaxed);
    while (next < g && tasks_.size() - groups_[next].inner_end >= threads) add_down();
  }
  while (next < groups_.size()) add_down();
}

// At most `wanted` tasks of whole units of a stage's outputs.
void ExpertSet::add_tiles(std::size_t group, Stage stage, std::size_t wanted) {
  const bool down = stage == Stage::kDown;
  const std::size_t outputs = down ? config_.hidden : config_.expert_ffn;
  const std::size_t unit = down ? kUnit : std::max(kUnit, scale_block(groups_[group].expert->down));
  const std::size_t units = (outputs + unit - 1) / unit;
  const std::size_t tiles = std::min(wanted, units);
  for (std::size_t i = 0; i < tiles; ++i) {
    tasks_.push_back({group, stage, units * i / tiles * unit,
                      std::min(outputs, units * (i + 1) / tiles * unit)});
  }
}

void ExpertSet::run_task(const Task& task, const kernels::RowsView& x, unsigned thread, float* y) {
  switch (task.stage) {
    case Stage::kInner: {
      run_inner(task, x, thread);
      std::atomic<std::uint32_t>& done = inner_done_[task.group];
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == groups_[task.group].inner_tiles) {
        done.notify_all();
      }
      return;
    }
    case Stage::kDown:
      await_inner(task.group);
      return run_down(task, y);
    case Stage::kBoth:
      run_inner({task.group, Stage::kInner, 0, config_.expert_ffn}, x, thread);
      return run_down({task.group, Stage::kDown, 0, config_.hidden}, y);
  }
}

// Tasks are handed out in their order: whoever works on the inner tiles waits for nobody.
void ExpertSet::await_inner(std::size_t group) {
  const std::atomic<std::uint32_t>& done = inner_done_[group];
  for (auto tiles = done.load(std::memory_order_acquire); tiles != groups_[group].inner_tiles;
       tiles = done.load(std::memory_order_acquire)) {
    done.wait(tiles, std::memory_order_acquire);
  }
}

// A tile of an expert's inner rows, some rows at a time.
void ExpertSet::run_inner(const Task& task, const kernels::RowsView& x, unsigned thread) {
  const Group& group = groups_[task.group];
  const std::size_t size = kInnerRows * config_.expert_ffn;
  float* const gate = products_.data() + 2 * thread * size;
  const std::size_t parts = (group.count + kInnerRows - 1) / kInnerRows;
  for (std::size_t i = 0, row = 0; i < parts; ++i) {
    const std::size_t count = (group.count - row) / (parts - i);
    inner_rows(task, x, group.first + row, count, gate, gate + size);
    row += count;
  }
}

// Columns of `task` of the inner rows of pairs [first, first + count): gate and up products,
// activation and, where the down product takes it, the 8-bit form, which a column tile of whole
// blocks has to itself.
void ExpertSet::inner_rows(const Task& task, const kernels::RowsView& x, std::size_t first,
                           std::size_t count, float* gate, float* up) {
  const Expert& expert = *groups_[task.group].expert;
  const std::size_t ffn = config_.expert_ffn;
  const std::size_t columns = task.end - task.begin;
  const std::size_t block = scale_block(expert.down);
  const auto multiply = [&](const Linear& linear, float* out) {
    const kernels::Product product{&linear.weight, x, rows_.data() + first, count, out, ffn};
    compute_.kernels.matmul(product, task.begin / kernels::kPanelOutputs, panels_of(task.end));
  };
  if (block == 0) gate = floats_.data() + first * ffn;
  multiply(expert.gate, gate);
  multiply(expert.up, up);
  for (std::size_t row = 0; row < count; ++row) {
    float* const gate_row = gate + row * ffn + task.begin;
    float* const up_row = up + row * ffn + task.begin;
    add_bias_part(expert.gate, task, gate_row);
    add_bias_part(expert.up, task, up_row);
    activate(compute_.kernels, config_.architecture->activation, gate_row, up_row, columns);
    if (block > 0) {
      const std::size_t p = first + row;
      compute_.kernels.quantize_row(gate_row, columns, block, inner_.quants(p, task.begin),
                                    inner_.scales(p, task.begin), inner_.sums(p, task.begin));
    }
  }
}

void ExpertSet::run_down(const Task& task, float* y) {
  const Group& group = groups_[task.group];
  const Linear& down = group.expert->down;
  const kernels::RowsView floats{
      .values = floats_.data(), .rows = rows_.size(), .columns = config_.expert_ffn};
  const kernels::RowsView rows = scale_block(down) > 0 ? inner_.view(nullptr) : floats;
  float* const out = y + group.first * config_.hidden;
  const kernels::Product product{&down.weight, rows.slice(group.first, group.count),
                                 nullptr,      group.count,
                                 out,          config_.hidden};
  compute_.kernels.matmul(product, task.begin / kernels::kPanelOutputs, panels_of(task.end));
  for (std::size_t row = 0; row < group.count; ++row) {
    add_bias_part(down, task, out + row * config_.hidden + task.begin);
  }
}

// y (columns of the tile) += its part of the bias.
void ExpertSet::add_bias_part(const Linear& linear, const Task& task, float* y) const {
  if (linear.bias.empty()) return;
  compute_.kernels.axpy(1.0f, linear.bias.data() + task.begin, task.end - task.begin, y);
}

}  // namespace conclave::model
