#include "placer.hpp"

#include <algorithm>
#include <numeric>
#include <queue>

#include "conclave/base/check.hpp"

namespace conclave::placement {

Placer::Placer(const PlacerInput& input)
    : input_(input),
      items_(static_cast<std::uint32_t>(input.copies.size())),
      workers_(static_cast<std::uint32_t>(input.room.size())),
      room_(input.room),
      copies_(items_),
      placed_(std::size_t{workers_} * items_),
      rarest_(items_) {
  std::vector<std::uint32_t> holders(items_);
  for (std::uint32_t worker = 0; worker < workers_; ++worker) {
    for (std::uint32_t item = 0; item < items_; ++item) {
      holders[item] += input.held[at(worker, item)] != Holding::kNone ? 1u : 0u;
    }
  }
  std::iota(rarest_.begin(), rarest_.end(), 0u);
  std::stable_sort(rarest_.begin(), rarest_.end(),
                   [&](auto a, auto b) { return holders[a] < holders[b]; });
}

std::vector<std::uint8_t> Placer::place() {
  // One copy of each before the second of any: if two copies of an item had to go, one worker with
  // room could not take both.
  std::uint32_t highest = 0;
  for (std::uint32_t item = 0; item < items_; ++item) highest = std::max(highest, most(item));
  for (std::uint32_t copies = 1; copies <= highest; ++copies) {
    keep(Holding::kResident, copies);
    keep(Holding::kAssigned, copies);
  }
  fill(0);
  if (input_.one_more) fill(1);
  return std::move(placed_);
}

// Rare items first: what only one worker has is lost to it if others fill its room.
void Placer::keep(Holding holding, std::uint32_t copies) {
  std::vector<std::uint32_t> holders;
  for (const std::uint32_t item : rarest_) {
    holders.clear();
    for (std::uint32_t worker = 0; worker < workers_; ++worker) {
      const std::size_t place = at(worker, item);
      if (input_.held[place] == holding && placed_[place] == 0) holders.push_back(worker);
    }
    std::stable_sort(holders.begin(), holders.end(),
                     [this](auto a, auto b) { return room_[a] > room_[b]; });
    for (const std::uint32_t worker : holders) {
      if (copies_[item] < std::min(copies, most(item)) && room_[worker] > 0) put(worker, item);
    }
  }
}

void Placer::fill(std::uint32_t more) {
  for (std::uint32_t item = 0; item < items_; ++item) {
    while (copies_[item] < input_.copies[item] + more) {
      if (put_where_room_is(item)) continue;
      if (more > 0 || !input_.may_displace) break;
      // The caller has counted room and workers, so there is a way.
      CONCLAVE_CHECK(displace(item, Holding::kNone) || displace(item, Holding::kResident));
    }
  }
}

bool Placer::put_where_room_is(std::uint32_t item) {
  std::uint32_t best = workers_;
  for (std::uint32_t worker = 0; worker < workers_; ++worker) {
    if (room_[worker] == 0 || placed_[at(worker, item)] != 0) continue;
    if (best == workers_ || room_[worker] > room_[best]) best = worker;
  }
  if (best == workers_) return false;
  put(best, item);
  return true;
}

// `worker` takes `item` and gives up another one, which then needs a place itself.
struct Placer::Step {
  std::uint32_t item = 0;
  std::uint32_t worker = 0;
};

// Breadth first along "worker takes the item and gives up another", so the fewest copies move,
// until a worker has room or gives up an item that has copies to spare: an augmenting path of the
// assignment seen as a flow, so it is found if there is one. Copies that are held more firmly than
// `firmest` are not given up.
bool Placer::displace(std::uint32_t item, Holding firmest) {
  constexpr std::uint32_t kUnseen = UINT32_MAX;
  std::vector<Step> reached_by(items_, Step{kUnseen, kUnseen});
  std::vector<std::uint8_t> seen_worker(workers_);
  std::queue<std::uint32_t> open;
  open.push(item);
  reached_by[item] = {item, kUnseen};

  // Along the path, from its end: each worker swaps what it gives up for what reached it.
  const auto apply = [&](std::uint32_t last) {
    while (last != item) {
      const Step step = reached_by[last];
      take(step.worker, last);
      put(step.worker, step.item);
      last = step.item;
    }
  };

  while (!open.empty()) {
    const std::uint32_t homeless = open.front();
    open.pop();
    for (std::uint32_t worker = 0; worker < workers_; ++worker) {
      if (seen_worker[worker] != 0 || placed_[at(worker, homeless)] != 0) continue;
      if (room_[worker] > 0) {
        put(worker, homeless);
        apply(homeless);
        return true;
      }
      seen_worker[worker] = 1;
      for (std::uint32_t other = 0; other < items_; ++other) {
        if (placed_[at(worker, other)] == 0 || reached_by[other].item != kUnseen) continue;
        if (input_.held[at(worker, other)] > firmest) continue;
        reached_by[other] = {homeless, worker};
        if (copies_[other] > input_.copies[other]) {
          apply(other);
          return true;
        }
        open.push(other);
      }
    }
  }
  return false;
}

void Placer::put(std::uint32_t worker, std::uint32_t item) {
  placed_[at(worker, item)] = 1;
  ++copies_[item];
  --room_[worker];
}

void Placer::take(std::uint32_t worker, std::uint32_t item) {
  placed_[at(worker, item)] = 0;
  --copies_[item];
  ++room_[worker];
}

}  // namespace conclave::placement
