#include "filler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "bits.hpp"
#include "quotas.hpp"

namespace conclave::placement {
namespace {

constexpr std::uint32_t kNone = UINT32_MAX;

}  // namespace

Filler::Filler(const PlanRequest& request, Board& board, std::vector<std::uint32_t> budget)
    : request_(request), board_(board), budget_(std::move(budget)), by_load_(board.items()) {
  std::iota(by_load_.begin(), by_load_.end(), 0u);
  std::stable_sort(by_load_.begin(), by_load_.end(), [this](auto a, auto b) {
    const std::uint32_t layer_a = board_.layer_of(a);
    const std::uint32_t layer_b = board_.layer_of(b);
    return layer_a != layer_b ? layer_a < layer_b : board_.load(a) > board_.load(b);
  });
}

void Filler::fill() {
  keep_held();
  if (board_.has_pins()) {
    place_fixed();
    place_floors(true);
  }
  if (request_.rebalance) pack_empty_layers();
  place_floors(false);
  if (!request_.rebalance) return;
  if (board_.domains_matter()) separate();
  for (std::uint32_t layer = 0; layer < board_.layers(); ++layer) trim(layer);
}

// What a worker was told to hold is what the last plan wanted; what it only happens to have, as one
// that comes back does, counts if it was told nothing.
void Filler::keep_held() {
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    const PlanWorker& asked = request_.workers[board_.worker(w).of_request];
    const bool was_told = request_.rebalance && asked.assigned.count() > 0;
    keep(w, was_told ? asked.assigned : asked.resident);
  }
}

void Filler::keep(std::uint32_t w, const wire::ExpertBits& bits) {
  std::vector<std::uint32_t> kept;
  for_each(bits, [&](std::uint32_t layer, std::uint32_t expert) {
    if (layer < request_.shape.dense_layers) return;
    const std::uint32_t item = (layer - request_.shape.dense_layers) * board_.experts() + expert;
    if (board_.allows(item, w)) kept.push_back(item);
  });
  // Rare ones first, should room have shrunk: what only one worker has is lost without it.
  if (kept.size() > board_.worker(w).room) {
    std::stable_sort(kept.begin(), kept.end(), [this](auto a, auto b) {
      return board_.held(a).size() < board_.held(b).size();
    });
  }
  for (const std::uint32_t item : kept) {
    if (!board_.has_room(w)) break;
    if (board_.copies(item) < board_.most(item) || board_.is_fixed(item, w)) board_.put(item, w);
  }
}

void Filler::place_fixed() {
  for (std::uint32_t item = 0; item < board_.items(); ++item) {
    for (const std::uint32_t w : board_.also(item)) {
      if (!board_.may_put(item, w)) continue;
      if (!board_.has_room(w)) {
        const std::uint32_t out = request_.rebalance ? least_wanted(w) : kNone;
        if (out == kNone) continue;
        board_.take(out, w);  // place_floors finds it another place if it needs one
      }
      board_.put(item, w);
    }
  }
}

// One copy of each before the second of any.
void Filler::place_floors(bool only_pinned) {
  for (std::uint32_t round = 1; round <= request_.replicas; ++round) {
    for (const std::uint32_t item : by_load_) {
      if (board_.copies(item) >= std::min(round, board_.needed(item))) continue;
      if (only_pinned && !board_.is_pinned(item)) continue;
      if (place(item, round) || !request_.rebalance) continue;
      if (place_by_dropping(item) || displace(item, round, false)) continue;
      displace(item, round, true);
    }
  }
}

double Filler::score(std::uint32_t item, std::uint32_t w) const {
  double score = board_.time(board_.layer_of(item), w);
  // Those that already share much with the holders shall not share more: sets that differ spread
  // what a lost worker did over many.
  for (const std::uint32_t other : board_.holders(item)) {
    score += board_.shared(w, other) * board_.load(item) * board_.ideal() * board_.workers() /
             request_.replicas;
  }
  return score;
}

// Whether worker `a` is a better place for one more copy of the item than `b`.
bool Filler::is_better(std::uint32_t item, std::uint32_t a, std::uint32_t b) const {
  if (board_.domains_matter() && board_.copies(item) < board_.needed(item)) {
    const std::uint32_t in_a = board_.conflict(item, a);
    const std::uint32_t in_b = board_.conflict(item, b);
    if (in_a != in_b) return in_a < in_b;
  }
  const auto held = [&](std::uint32_t w) {
    if (!board_.was_held(item, w)) return 0;
    return board_.was_resident(item, w) ? 2 : 1;
  };
  const int held_a = held(a);
  const int held_b = held(b);
  if (held_a != held_b) return held_a > held_b;
  const double difference = score(item, a) - score(item, b);
  if (std::abs(difference) > 1e-12) return difference < 0;
  const Board::Worker& in_a = board_.worker(a);
  const Board::Worker& in_b = board_.worker(b);
  const double totals = in_a.total - in_b.total;
  if (std::abs(totals) > 1e-12) return totals < 0;
  return a < b;
}

bool Filler::place(std::uint32_t item, std::uint32_t round) {
  if (board_.copies(item) >= round) return true;
  std::uint32_t best = kNone;
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    if (!board_.has_room(w) || !board_.may_put(item, w)) continue;
    if (best == kNone || is_better(item, w, best)) best = w;
  }
  if (best == kNone) return false;
  board_.put(item, best);
  return true;
}

// The copy on a worker that can be spared most easily; kNone if none can.
std::uint32_t Filler::least_wanted(std::uint32_t w) const {
  std::uint32_t best = kNone;
  for (std::uint32_t layer = 0; layer < board_.layers(); ++layer) {
    for (const std::uint32_t item : board_.hosted(layer, w)) {
      if (!board_.is_spare(item, w)) continue;
      if (best == kNone || board_.time_of(item) < board_.time_of(best)) best = item;
    }
  }
  return best;
}

bool Filler::place_by_dropping(std::uint32_t item) {
  std::uint32_t best = kNone;
  std::uint32_t dropped = kNone;
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    if (!board_.may_put(item, w)) continue;
    if (best != kNone && !is_better(item, w, best)) continue;
    const std::uint32_t out = least_wanted(w);
    if (out == kNone) continue;
    best = w;
    dropped = out;
  }
  if (best == kNone) return false;
  board_.take(dropped, best);
  board_.put(item, best);
  return true;
}

// Breadth first along "worker takes the item and gives up another", until a worker has room or
// gives up an item that has more than `round` copies: an augmenting path of the assignment seen as
// a flow, so it is found if there is one, and the fewest copies move. What is held is given up only
// if `even_held`.
bool Filler::displace(std::uint32_t item, std::uint32_t round, bool even_held) {
  struct Step {
    std::uint32_t item = kNone;
    std::uint32_t worker = kNone;
  };
  std::vector<Step> reached_by(board_.items());
  std::vector<std::uint8_t> seen(board_.workers());
  std::queue<std::uint32_t> open;
  open.push(item);
  reached_by[item].item = item;
  const auto apply = [&](std::uint32_t last) {
    while (last != item) {
      const Step step = reached_by[last];
      board_.take(last, step.worker);
      board_.put(step.item, step.worker);
      last = step.item;
    }
  };
  while (!open.empty()) {
    const std::uint32_t homeless = open.front();
    open.pop();
    for (std::uint32_t w = 0; w < board_.workers(); ++w) {
      if (seen[w] != 0 || !board_.may_put(homeless, w)) continue;
      if (board_.has_room(w)) {
        board_.put(homeless, w);
        apply(homeless);
        return true;
      }
      seen[w] = 1;
      for (std::uint32_t layer = 0; layer < board_.layers(); ++layer) {
        const Board::Indexes hosted = board_.hosted(layer, w);
        for (const std::uint32_t other : hosted) {
          if (reached_by[other].item != kNone || board_.is_fixed(other, w)) continue;
          if (!even_held && board_.was_held(other, w)) continue;
          reached_by[other] = {homeless, w};
          if (board_.copies(other) > std::min(round, board_.needed(other))) {
            apply(other);
            return true;
          }
          open.push(other);
        }
      }
    }
  }
  return false;
}

void Filler::pack_empty_layers() {
  std::vector<std::uint32_t> empty;
  std::uint64_t copies = 0;
  for (std::uint32_t layer = 0; layer < board_.layers(); ++layer) {
    std::uint32_t pinned = 0;
    for (std::uint32_t e = 0; e < board_.experts(); ++e) {
      const std::uint32_t item = layer * board_.experts() + e;
      if (board_.is_pinned(item)) pinned += board_.copies(item);
    }
    if (board_.copies_in(layer) > pinned) continue;
    empty.push_back(layer);
    copies += budget_[layer] - std::min(budget_[layer], pinned);
  }
  if (empty.empty() || board_.workers() == 0) return;
  std::vector<std::uint64_t> room;
  std::vector<double> speed;
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    const Board::Worker& worker = board_.worker(w);
    room.push_back(worker.may_take ? worker.room - worker.used : 0);
    speed.push_back(worker.speed);
  }
  copies = std::min(copies, std::accumulate(room.begin(), room.end(), std::uint64_t{0}));
  const auto shares = share_out_by_speed(copies, room, speed);
  const auto layers = static_cast<std::uint32_t>(empty.size());
  const std::vector<std::uint32_t> holds(std::size_t{layers} * board_.workers());
  const auto quotas = spread_over_layers(shares, layers, holds);
  for (std::uint32_t i = 0; i < layers; ++i) {
    const auto row = quotas.begin() + static_cast<std::ptrdiff_t>(i) * board_.workers();
    std::vector<std::uint32_t> quota(row, row + board_.workers());
    pack(empty[i], quota);
  }
}

// Copies of each expert of a layer: the floor, then one more for whatever is hottest by copy.
std::vector<std::uint32_t> Filler::counts(std::uint32_t layer, std::uint32_t copies) const {
  const std::uint32_t first = layer * board_.experts();
  std::vector<std::uint32_t> counts(board_.experts());
  for (std::uint32_t e = 0; e < board_.experts(); ++e) counts[e] = board_.copies(first + e);
  for (std::uint32_t round = 1; round <= request_.replicas; ++round) {
    for (std::uint32_t i = first; i < first + board_.experts(); ++i) {
      const std::uint32_t item = by_load_[i];
      std::uint32_t& count = counts[item - first];
      if (copies == 0 || count >= std::min(round, board_.needed(item))) continue;
      ++count;
      --copies;
    }
  }
  if (!board_.has_loads()) return counts;
  const auto is_cooler = [&](std::uint32_t a, std::uint32_t b) {
    const double load_a = board_.load(first + a) / std::max(counts[a], 1u);
    const double load_b = board_.load(first + b) / std::max(counts[b], 1u);
    return load_a != load_b ? load_a < load_b : a > b;
  };
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, decltype(is_cooler)> hottest(
      is_cooler);
  for (std::uint32_t e = 0; e < board_.experts(); ++e) {
    if (counts[e] < board_.most(first + e)) hottest.push(e);
  }
  for (; copies > 0 && !hottest.empty(); --copies) {
    const std::uint32_t e = hottest.top();
    hottest.pop();
    if (++counts[e] < board_.most(first + e)) hottest.push(e);
  }
  return counts;
}

// EPLB's packing: the copies that weigh most first, each to the worker that has least to do yet.
void Filler::pack(std::uint32_t layer, std::vector<std::uint32_t>& quota) {
  const std::vector<std::uint32_t> all_of_it = quota;
  const std::uint32_t first = layer * board_.experts();
  const auto wanted = counts(layer, std::accumulate(quota.begin(), quota.end(), 0u));
  std::vector<std::uint32_t> order(board_.experts());
  std::iota(order.begin(), order.end(), first);
  const auto weight = [&](std::uint32_t item) {
    return board_.load(item) / std::max(wanted[item - first], 1u);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return weight(a) > weight(b); });
  for (const std::uint32_t item : order) {
    while (board_.copies(item) < wanted[item - first]) {
      std::uint32_t best = kNone;
      for (std::uint32_t w = 0; w < board_.workers(); ++w) {
        if (quota[w] == 0 || !board_.has_room(w) || !board_.may_put(item, w)) continue;
        if (best == kNone || is_better(item, w, best)) best = w;
      }
      if (best == kNone) break;  // the rest of the quota is on workers that have it: place_floors
      board_.put(item, best);
      --quota[best];
    }
  }
  if (request_.replicas == 1 && !board_.has_pins()) pack_as_eplb(layer, order, wanted, all_of_it);
}

// EPLB to the letter, which may put two copies of an item on one worker; as they count once there,
// the item's load is shared otherwise than it reckoned, and now and then that is better by chance.
void Filler::pack_as_eplb(std::uint32_t layer, const std::vector<std::uint32_t>& order,
                          const std::vector<std::uint32_t>& wanted,
                          std::vector<std::uint32_t> quota) {
  const std::uint32_t first = layer * board_.experts();
  std::vector<std::vector<std::uint32_t>> hosted(board_.workers());
  std::vector<double> packed(board_.workers());
  std::vector<double> speeds(board_.experts());
  for (const std::uint32_t item : order) {
    for (std::uint32_t copy = 0; copy < wanted[item - first]; ++copy) {
      std::uint32_t best = kNone;
      for (std::uint32_t w = 0; w < board_.workers(); ++w) {
        if (quota[w] == 0) continue;
        if (best == kNone || packed[w] < packed[best] * (1 - 1e-12)) best = w;
      }
      if (best == kNone) return;
      --quota[best];
      packed[best] += board_.load(item) / wanted[item - first] / board_.worker(best).speed;
      if (std::ranges::find(hosted[best], item) != hosted[best].end()) continue;
      hosted[best].push_back(item);
      speeds[item - first] += board_.worker(best).speed;
    }
  }
  double theirs = 0;
  double ours = 0;
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    double time = 0;
    for (const std::uint32_t item : hosted[w]) time += board_.load(item) / speeds[item - first];
    theirs = std::max(theirs, time);
    ours = std::max(ours, board_.time(layer, w));
  }
  if (theirs >= ours) return;
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    const Board::Indexes gone = board_.hosted(layer, w);
    for (const std::uint32_t item : gone) board_.take(item, w);
  }
  for (std::uint32_t w = 0; w < board_.workers(); ++w) {
    for (const std::uint32_t item : hosted[w]) board_.put(item, w);
  }
}

// Replicas that share a host or zone while there are others: workers may have moved or joined.
void Filler::separate() {
  for (std::uint32_t item = 0; item < board_.items(); ++item) {
    for (std::uint32_t tries = 0; tries < request_.replicas && board_.crowding(item) > 0; ++tries) {
      if (!separate(item)) break;
    }
  }
}

bool Filler::separate(std::uint32_t item) {
  const std::uint32_t crowding = board_.crowding(item);
  const std::uint32_t layer = board_.layer_of(item);
  const Board::Indexes holders = board_.holders(item);
  for (const std::uint32_t from : holders) {
    if (board_.is_fixed(item, from)) continue;
    std::uint32_t best = kNone;
    std::uint32_t swapped = kNone;
    for (std::uint32_t w = 0; w < board_.workers(); ++w) {
      if (!board_.may_put(item, w) || board_.crowding(item, from, w) >= crowding) continue;
      if (best != kNone && !is_better(item, w, best)) continue;
      if (board_.has_room(w)) {
        best = w;
        swapped = kNone;
        continue;
      }
      for (const std::uint32_t other : board_.hosted(layer, w)) {
        if (board_.is_fixed(other, w) || !board_.may_put(other, from)) continue;
        if (board_.crowding(other, w, from) > board_.crowding(other)) continue;
        best = w;
        swapped = other;
        break;
      }
    }
    if (best == kNone) continue;
    board_.take(item, from);
    if (swapped != kNone) {
      board_.take(swapped, best);
      board_.put(swapped, from);
    }
    board_.put(item, best);
    return true;
  }
  return false;
}

// Above the budget: what helps least goes first, of two alike what is not loaded yet.
void Filler::trim(std::uint32_t layer) {
  while (board_.copies_in(layer) > budget_[layer]) {
    std::uint32_t best = kNone;
    std::uint32_t on = kNone;
    double best_value = 0;
    for (std::uint32_t w = 0; w < board_.workers(); ++w) {
      for (const std::uint32_t item : board_.hosted(layer, w)) {
        if (!board_.is_spare(item, w)) continue;
        const double rest = board_.speed_of(item) - board_.worker(w).speed;
        const double rise = board_.load(item) / rest - board_.time_of(item);
        double value = board_.time(layer, w) - 2 * rise;
        if (!board_.was_resident(item, w)) value += board_.ideal() / board_.experts();
        if (board_.domains_matter()) {  // what holds replicas apart goes last
          const int rise_of_crowding =
              static_cast<int>(board_.crowding(item, w)) - static_cast<int>(board_.crowding(item));
          value -= rise_of_crowding * 1e3 * board_.ideal();
        }
        if (best != kNone && value <= best_value) continue;
        best = item;
        on = w;
        best_value = value;
      }
    }
    if (best == kNone) return;
    board_.take(best, on);
  }
}

}  // namespace conclave::placement
