#include <algorithm>
#include <cmath>
#include <numeric>

#include "board.hpp"
#include "conclave/base/check.hpp"
#include "conclave/placement/planner.hpp"
#include "explain.hpp"
#include "filler.hpp"
#include "improver.hpp"
#include "quotas.hpp"

namespace conclave::placement {
namespace {

// Most copies by layer: the floor and the spare ones, as far as there is room, alike in all layers.
std::vector<std::uint32_t> budget_of(const PlanRequest& request, const Board& board) {
  std::uint64_t room = 0;
  for (std::uint32_t w = 0; w < board.workers(); ++w) room += board.worker(w).room;
  const std::uint64_t total = request.shape.experts_total();
  const auto spare =
      static_cast<std::uint64_t>(std::floor(request.spare * static_cast<double>(total) + 1e-6));
  const std::uint64_t floor = std::min(request.replicas, board.workers());
  const std::uint64_t copies = std::min(room, total * floor + spare);
  std::vector<std::uint32_t> budget(board.layers());
  for (std::uint32_t layer = 0; layer < board.layers(); ++layer) {
    budget[layer] = static_cast<std::uint32_t>(copies / board.layers() +
                                               (layer < copies % board.layers() ? 1 : 0));
  }
  return budget;
}

// Most copies of one layer on a worker: its even share, which depends on nothing that a plan
// changes, and one more so that there is play.
std::vector<std::uint32_t> count_max(const Board& board, const std::vector<std::uint32_t>& budget) {
  std::vector<std::uint64_t> room;
  std::vector<double> speed;
  for (std::uint32_t w = 0; w < board.workers(); ++w) {
    room.push_back(board.worker(w).room);
    speed.push_back(board.worker(w).speed);
  }
  const std::uint64_t copies =
      std::min(std::accumulate(room.begin(), room.end(), std::uint64_t{0}),
               std::accumulate(budget.begin(), budget.end(), std::uint64_t{0}));
  std::vector<std::uint32_t> most;
  for (const std::uint64_t share : share_out_by_speed(copies, room, speed)) {
    most.push_back(static_cast<std::uint32_t>((share + board.layers() - 1) / board.layers()) + 1);
  }
  return most;
}

}  // namespace

bool Pin::names(const PlanWorker& worker) const {
  if (!group.empty() && worker.group != group) return false;
  return workers.empty() || std::ranges::find(workers, worker.name) != workers.end();
}

Plan EplbFtPlanner::plan(const PlanRequest& request) const {
  const ModelShape& shape = request.shape;
  CONCLAVE_CHECK(shape.dense_layers < shape.layers && shape.experts > 0 && request.replicas > 0);
  CONCLAVE_CHECK(request.spare >= 0 && request.move_price >= 0);
  Board board(request);
  if (board.workers() > 0) {
    const std::vector<std::uint32_t> budget = budget_of(request, board);
    Filler(request, board, budget).fill();
    if (request.rebalance) Improver(request, board, budget, count_max(board, budget)).improve();
  }
  Plan plan;
  plan.targets.assign(request.workers.size(), wire::ExpertBits(shape.layers, shape.experts));
  board.store(plan.targets);
  count(request, plan);
  if (plan.replicas < request.replicas) plan.reason = explain_shortage(request, plan.replicas);
  plan.before = predict(request);
  plan.after = predict(request, plan.targets);
  plan.explanation = explain_plan(request, plan);
  return plan;
}

}  // namespace conclave::placement
