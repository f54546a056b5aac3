// What a placement must have, whatever it costs: what is held stays where it may, every expert has
// its copies, pins come true, replicas are apart, nothing is above the budget. How evenly the load
// is shared comes after (improver.hpp).
#pragma once

#include <cstdint>
#include <vector>

#include "board.hpp"

namespace conclave::placement {

class Filler {
 public:
  /// `budget`: most copies by layer; the floor goes before it where there is room.
  Filler(const PlanRequest& request, Board& board, std::vector<std::uint32_t> budget);

  /// Places on the empty board. With request.rebalance false nothing resident moves, and nothing is
  /// added but what is missing.
  void fill();

 private:
  void keep_held();
  void keep(std::uint32_t w, const wire::ExpertBits& bits);
  void place_fixed();
  void place_floors(bool only_pinned);
  void pack_empty_layers();
  void pack(std::uint32_t layer, std::vector<std::uint32_t>& quota);
  void pack_as_eplb(std::uint32_t layer, const std::vector<std::uint32_t>& order,
                    const std::vector<std::uint32_t>& wanted, std::vector<std::uint32_t> quota);
  [[nodiscard]] std::vector<std::uint32_t> counts(std::uint32_t layer, std::uint32_t copies) const;
  void separate();
  bool separate(std::uint32_t item);
  void trim(std::uint32_t layer);

  [[nodiscard]] bool is_better(std::uint32_t item, std::uint32_t a, std::uint32_t b) const;
  [[nodiscard]] double score(std::uint32_t item, std::uint32_t w) const;
  bool place(std::uint32_t item, std::uint32_t round);
  bool place_by_dropping(std::uint32_t item);
  [[nodiscard]] std::uint32_t least_wanted(std::uint32_t w) const;
  bool displace(std::uint32_t item, std::uint32_t round, bool even_held);

  const PlanRequest& request_;
  Board& board_;
  std::vector<std::uint32_t> budget_;
  std::vector<std::uint32_t> by_load_;  // items, of each layer the hottest first
};

}  // namespace conclave::placement
