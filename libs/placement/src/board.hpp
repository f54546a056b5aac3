// A placement while it is being made: who hosts what, how busy that makes each worker in each
// layer, and what the rules of the request allow. Plain bookkeeping; it decides nothing.
//
// Indexes are its own: workers are those of the request that can hold anything (not leaving, room
// for one), layers start with the first that has experts, an item is layer * experts + expert.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "conclave/placement/planner.hpp"

namespace conclave::placement {

class Board {
 public:
  using Indexes = std::vector<std::uint32_t>;

  struct Worker {
    std::size_t of_request = 0;
    double speed = 1;
    std::uint32_t room = 0;  // copies, in all
    std::uint32_t host = 0;
    std::uint32_t zone = 0;
    bool may_take = true;  // not cordoned
    std::uint32_t used = 0;
    double total = 0;  // its times of all layers
  };

  /// The request must outlive it. Empty: nothing is placed yet.
  explicit Board(const PlanRequest& request);

  [[nodiscard]] std::uint32_t layers() const { return layers_; }
  [[nodiscard]] std::uint32_t experts() const { return experts_; }
  [[nodiscard]] std::uint32_t items() const { return layers_ * experts_; }
  [[nodiscard]] std::uint32_t workers() const { return static_cast<std::uint32_t>(all_.size()); }
  [[nodiscard]] const Worker& worker(std::uint32_t w) const { return all_[w]; }
  [[nodiscard]] std::uint32_t layer_of(std::uint32_t item) const { return item / experts_; }

  /// Share of its layer's load; those of a layer add up to 1.
  [[nodiscard]] double load(std::uint32_t item) const { return loads_[item]; }
  [[nodiscard]] bool has_loads() const { return !request_.loads.empty(); }
  /// Time of a worker for a layer if the load were spread perfectly.
  [[nodiscard]] double ideal() const { return ideal_; }
  /// What the item takes of each worker that hosts it: pairs are shared in proportion to speed.
  [[nodiscard]] double time_of(std::uint32_t item) const { return loads_[item] / speeds_[item]; }
  [[nodiscard]] double speed_of(std::uint32_t item) const { return speeds_[item]; }
  [[nodiscard]] double time(std::uint32_t layer, std::uint32_t w) const {
    return times_[at(layer, w)];
  }

  [[nodiscard]] const Indexes& holders(std::uint32_t item) const { return holders_[item]; }
  [[nodiscard]] std::uint32_t copies(std::uint32_t item) const {
    return static_cast<std::uint32_t>(holders_[item].size());
  }
  /// Items, in no order.
  [[nodiscard]] const Indexes& hosted(std::uint32_t layer, std::uint32_t w) const {
    return hosted_[at(layer, w)];
  }
  [[nodiscard]] bool has(std::uint32_t item, std::uint32_t w) const;
  [[nodiscard]] std::uint32_t copies_in(std::uint32_t layer) const { return layer_copies_[layer]; }
  /// Workers that held the item, or were told to, before planning.
  [[nodiscard]] const Indexes& held(std::uint32_t item) const { return held_[item]; }
  [[nodiscard]] bool was_held(std::uint32_t item, std::uint32_t w) const;
  /// ... loaded; the rest of was_held() was only assigned.
  [[nodiscard]] bool was_resident(std::uint32_t item, std::uint32_t w) const;

  void put(std::uint32_t item, std::uint32_t w);
  void take(std::uint32_t item, std::uint32_t w);

  // Rules.

  /// By pins.
  [[nodiscard]] bool allows(std::uint32_t item, std::uint32_t w) const;
  /// A pin wants this copy.
  [[nodiscard]] bool is_fixed(std::uint32_t item, std::uint32_t w) const;
  [[nodiscard]] std::span<const std::uint32_t> also(std::uint32_t item) const;
  [[nodiscard]] bool has_pins() const { return !request_.pins.empty(); }
  [[nodiscard]] bool is_pinned(std::uint32_t item) const {
    return !rule_of_.empty() && rule_of_[item] != 0;
  }
  /// A new copy may come here: allowed, not there yet, not cordoned; room is another question.
  [[nodiscard]] bool may_put(std::uint32_t item, std::uint32_t w) const;
  [[nodiscard]] bool has_room(std::uint32_t w) const { return all_[w].used < all_[w].room; }
  /// Copies that the item must have: the floor, or as many as there may be workers for it.
  [[nodiscard]] std::uint32_t needed(std::uint32_t item) const { return needed_[item]; }
  /// ... and the most it may have.
  [[nodiscard]] std::uint32_t most(std::uint32_t item) const { return most_[item]; }
  [[nodiscard]] bool is_spare(std::uint32_t item, std::uint32_t w) const {
    return copies(item) > needed_[item] && !is_fixed(item, w);
  }

  // Failure domains.

  [[nodiscard]] bool domains_matter() const { return domains_matter_; }
  /// 2: the item is on the worker's host already, 1: in its zone, 0: neither.
  [[nodiscard]] std::uint32_t conflict(std::uint32_t item, std::uint32_t w) const;
  /// How far the item's copies are from as many hosts and zones as the floor wants and there are,
  /// with worker `minus` left out and `plus` added (kNobody: none). 0 is best.
  static constexpr std::uint32_t kNobody = UINT32_MAX;
  [[nodiscard]] std::uint32_t crowding(std::uint32_t item, std::uint32_t minus = kNobody,
                                       std::uint32_t plus = kNobody) const;

  // Mirrors.

  /// Items that both host. 0 for very many workers: see kMirrorWorkersMax.
  [[nodiscard]] std::uint32_t shared(std::uint32_t a, std::uint32_t b) const;
  /// Whether a copy of the item here would make the worker too much of a mirror of another.
  [[nodiscard]] bool would_mirror(std::uint32_t item, std::uint32_t w) const;

  void store(std::vector<wire::ExpertBits>& targets) const;

 private:
  // Above it, the table of pairs would take more than 32 MiB, and mirrors do not arise by chance.
  static constexpr std::uint32_t kMirrorWorkersMax = 4096;

  struct Rule {
    std::vector<std::uint8_t> allowed;  // by worker
    Indexes also;
  };

  [[nodiscard]] std::size_t at(std::uint32_t layer, std::uint32_t w) const {
    return std::size_t{layer} * all_.size() + w;
  }
  void read_workers();
  void read_loads();
  void read_held();
  void read_pins();
  void read_floors();
  [[nodiscard]] Rule rule_of(const std::vector<std::uint32_t>& pins) const;
  void add_time(std::uint32_t item, double sign);

  const PlanRequest& request_;
  std::uint32_t layers_;
  std::uint32_t experts_;
  std::vector<Worker> all_;
  std::vector<double> loads_;   // by item
  std::vector<double> speeds_;  // by item: of its holders together
  std::vector<double> times_;   // (layer, worker)
  std::vector<Indexes> holders_;
  std::vector<Indexes> hosted_;
  std::vector<Indexes> held_;
  std::vector<std::uint32_t> layer_copies_;
  std::vector<std::uint32_t> needed_;
  std::vector<std::uint32_t> most_;
  std::vector<Rule> rules_;
  std::vector<std::uint32_t> rule_of_;  // by item: index + 1 into rules_; 0: none. Empty: no pins
  std::vector<std::uint16_t> shared_;   // (worker, worker)
  std::vector<std::uint32_t> shared_max_;  // by worker
  double ideal_ = 0;
  std::uint32_t hosts_ = 0;
  std::uint32_t zones_ = 0;
  bool domains_matter_ = false;
};

}  // namespace conclave::placement
