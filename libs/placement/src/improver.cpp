#include "improver.hpp"

#include <algorithm>
#include <numeric>

namespace conclave::placement {
namespace {

// Below it, a difference is rounding, or nothing that anybody could measure.
constexpr double kEpsilon = 1e-9;
// So near to perfect, a layer is left alone.
constexpr double kGoodEnough = 1.002;

}  // namespace

Improver::Improver(const PlanRequest& request, Board& board,
                   const std::vector<std::uint32_t>& budget, std::vector<std::uint32_t> count_max)
    : request_(request), board_(board), budget_(budget), count_max_(std::move(count_max)) {}

// The first pass pays for what it moves away from what was held before planning; the next ones for
// what they move away from the pass before. A pass that changes nothing is what planning again
// finds.
void Improver::improve() {
  if (board_.workers() < 2) return;
  for (std::uint32_t pass = 0; pass < kPassesMax; ++pass) {
    bool changed = false;
    for (std::uint32_t layer = 0; layer < board_.layers(); ++layer) {
      Layer before;
      before.reserve(board_.experts());
      for (std::uint32_t e = 0; e < board_.experts(); ++e) {
        const std::uint32_t item = layer * board_.experts() + e;
        before.push_back(pass == 0 ? board_.held(item) : board_.holders(item));
      }
      changed |= improve(layer, before);
    }
    if (!changed) return;
  }
}

bool Improver::improve(std::uint32_t layer, const Layer& before) {
  changes_.clear();
  // Each step makes the sorted times smaller, so there is an end; the bound is for rounding.
  const std::uint32_t steps_max = 4 * board_.copies_in(layer) + 16;
  const double price = request_.move_price * board_.ideal() / board_.experts();
  std::uint32_t top = busiest(layer);
  double best_cost = board_.time(layer, top);
  std::size_t best_length = 0;
  std::size_t counted = 0;
  int moves = 0;
  for (std::uint32_t i = 0; i < steps_max; ++i) {
    if (board_.time(layer, top) <= kGoodEnough * board_.ideal()) break;
    // No later step could make up for what has been paid.
    if (board_.ideal() + price * moves > best_cost) break;
    const Step step = best_step(layer, top);
    if (step.kind == Kind::kNothing) break;
    apply(step, top);
    for (; counted < changes_.size(); ++counted) moves += moves_of(changes_[counted], before);
    top = busiest(layer);
    const double cost = board_.time(layer, top) + price * moves;
    if (cost < best_cost - kEpsilon * board_.ideal()) {
      best_cost = cost;
      best_length = changes_.size();
    }
  }
  const bool changed = best_length > 0;
  for (; changes_.size() > best_length; changes_.pop_back()) {
    const Change& last = changes_.back();
    last.is_put ? board_.take(last.item, last.worker) : board_.put(last.item, last.worker);
  }
  return changed;
}

std::uint32_t Improver::busiest(std::uint32_t layer) const {
  std::uint32_t top = 0;
  for (std::uint32_t w = 1; w < board_.workers(); ++w) {
    if (board_.time(layer, w) > board_.time(layer, top)) top = w;
  }
  return top;
}

Improver::Step Improver::best_step(std::uint32_t layer, std::uint32_t top) const {
  Step best;
  for (const std::uint32_t item : board_.hosted(layer, top)) try_drop(top, item, best);
  std::vector<std::uint32_t> order;
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    if (w != top && board_.time(layer, w) < board_.time(layer, top)) order.push_back(w);
  }
  const auto is_idler = [&](auto a, auto b) {
    const double time_a = board_.time(layer, a);
    const double time_b = board_.time(layer, b);
    if (time_a != time_b) return time_a < time_b;
    return board_.worker(a).total != board_.worker(b).total
               ? board_.worker(a).total < board_.worker(b).total
               : a < b;
  };
  const std::size_t first = std::min<std::size_t>(kCandidates, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(first), order.end(),
                    is_idler);
  for (std::size_t i = 0; i < first; ++i) try_worker(layer, top, order[i], best);
  for (std::size_t i = first; i < order.size() && best.kind == Kind::kNothing; ++i) {
    try_worker(layer, top, order[i], best);
  }
  return best;
}

void Improver::try_worker(std::uint32_t layer, std::uint32_t top, std::uint32_t w,
                          Step& best) const {
  const Board::Indexes& theirs = board_.hosted(layer, w);
  const bool is_free = board_.has_room(w) && theirs.size() < count_max_[w];
  for (const std::uint32_t item : board_.hosted(layer, top)) {
    if (!board_.may_put(item, w)) continue;
    if (is_free) try_free(top, item, w, best);
    for (const std::uint32_t other : theirs) {
      if (other != item && !board_.is_fixed(other, w)) try_instead(top, item, w, other, best);
    }
  }
}

// To a worker with room: the item itself, or one more copy of it.
void Improver::try_free(std::uint32_t top, std::uint32_t item, std::uint32_t w, Step& best) const {
  const std::uint32_t layer = board_.layer_of(item);
  const double top_time = board_.time(layer, top);
  const double now = board_.time_of(item);
  if (!board_.is_fixed(item, top) && may_go(item, top, w)) {
    const double then = board_.load(item) /
                        (board_.speed_of(item) - board_.worker(top).speed + board_.worker(w).speed);
    const double peak = std::max(
        {board_.time(layer, w) + then, top_time - now, peak_of_others(item, then - now, top, w)});
    offer({Kind::kMove, item, w, 0, 0}, peak, top_time, 1, best);
  }
  if (board_.copies(item) < board_.most(item) && board_.copies_in(layer) < budget_[layer] &&
      board_.has_loads() && !board_.would_mirror(item, w)) {
    const double then = board_.load(item) / (board_.speed_of(item) + board_.worker(w).speed);
    const double peak = std::max(board_.time(layer, w) + then, top_time - now + then);
    offer({Kind::kAdd, item, w, 0, 0}, peak, top_time, 1, best);
  }
}

// To a worker that gives up another one for it: to the busiest in exchange, or, where there are
// copies to spare, for good.
void Improver::try_instead(std::uint32_t top, std::uint32_t item, std::uint32_t w,
                           std::uint32_t other, Step& best) const {
  const std::uint32_t layer = board_.layer_of(item);
  const double top_time = board_.time(layer, top);
  const double time = board_.time(layer, w);
  const double speed_top = board_.worker(top).speed;
  const double speed = board_.worker(w).speed;
  const double now = board_.time_of(item);
  const double other_now = board_.time_of(other);
  if (!board_.is_fixed(item, top) && other_now < now && board_.may_put(other, top) &&
      may_go(item, top, w) && may_go(other, w, top)) {
    const double then = board_.load(item) / (board_.speed_of(item) - speed_top + speed);
    const double other_then = board_.load(other) / (board_.speed_of(other) - speed + speed_top);
    const double rises = std::max(then - now, 0.0) + std::max(other_then - other_now, 0.0);
    const double peak =
        std::max({time - other_now + then, top_time - now + other_then,
                  peak_of_others(item, rises, top, w), peak_of_others(other, rises, top, w)});
    offer({Kind::kSwap, item, w, other, 0}, peak, top_time, 2, best);
  }
  if (board_.is_spare(other, w) && board_.copies(item) < board_.most(item) &&
      !board_.would_mirror(item, w) &&
      (!board_.domains_matter() || board_.crowding(other, w) <= board_.crowding(other))) {
    const double then = board_.load(item) / (board_.speed_of(item) + speed);
    const double other_then = board_.load(other) / (board_.speed_of(other) - speed);
    const bool top_has_other = board_.has(other, top);
    const double peak =
        std::max({time - other_now + then,
                  top_time - now + then + (top_has_other ? other_then - other_now : 0.0),
                  peak_of_others(other, other_then - other_now, top, w)});
    offer({Kind::kReplace, item, w, other, 0}, peak, top_time, 1, best);
  }
}

void Improver::try_drop(std::uint32_t top, std::uint32_t item, Step& best) const {
  if (!board_.is_spare(item, top)) return;
  if (board_.domains_matter() && board_.crowding(item, top) > board_.crowding(item)) return;
  const double top_time = board_.time(board_.layer_of(item), top);
  const double now = board_.time_of(item);
  const double then = board_.load(item) / (board_.speed_of(item) - board_.worker(top).speed);
  const double peak = std::max(top_time - now, peak_of_others(item, then - now, top, top));
  offer({Kind::kDrop, item, top, 0, 0}, peak, top_time, 0.5, best);
}

// What a step is worth: how far it brings the busiest worker down, but not below what is ideal, by
// what it moves.
void Improver::offer(Step step, double peak, double top_time, double cost, Step& best) const {
  const double gain = top_time - std::max(peak, board_.ideal());
  if (peak >= top_time * (1 - kEpsilon) || gain <= 0) return;
  step.value = gain / cost;
  if (step.value > best.value * (1 + kEpsilon)) best = step;
}

bool Improver::may_go(std::uint32_t item, std::uint32_t from, std::uint32_t to) const {
  if (board_.domains_matter() && board_.crowding(item, from, to) > board_.crowding(item)) {
    return false;
  }
  return !board_.would_mirror(item, to);
}

double Improver::peak_of_others(std::uint32_t item, double rise, std::uint32_t a,
                                std::uint32_t b) const {
  if (rise <= 0) return 0;
  double peak = 0;
  for (const std::uint32_t w : board_.holders(item)) {
    if (w != a && w != b) peak = std::max(peak, board_.time(board_.layer_of(item), w) + rise);
  }
  return peak;
}

void Improver::apply(const Step& step, std::uint32_t top) {
  switch (step.kind) {
    case Kind::kNothing:
      break;
    case Kind::kMove:
      change(step.item, top, false);
      change(step.item, step.to, true);
      break;
    case Kind::kSwap:
      change(step.item, top, false);
      change(step.other, step.to, false);
      change(step.item, step.to, true);
      change(step.other, top, true);
      break;
    case Kind::kAdd:
      change(step.item, step.to, true);
      break;
    case Kind::kReplace:
      change(step.other, step.to, false);
      change(step.item, step.to, true);
      break;
    case Kind::kDrop:
      change(step.item, top, false);
      break;
  }
}

void Improver::change(std::uint32_t item, std::uint32_t worker, bool is_put) {
  is_put ? board_.put(item, worker) : board_.take(item, worker);
  changes_.push_back({item, worker, is_put});
}

// +1: a copy that was not there before; -1: one such copy less.
int Improver::moves_of(const Change& change, const Layer& before) const {
  const Board::Indexes& there = before[change.item % board_.experts()];
  if (std::find(there.begin(), there.end(), change.worker) != there.end()) return 0;
  return change.is_put ? 1 : -1;
}

}  // namespace conclave::placement
