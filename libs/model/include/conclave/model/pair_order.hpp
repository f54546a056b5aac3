// Pairs in the order in which experts work them: by expert, then by row. Whoever computes or sends
// the pairs of a layer sorts them with this: LocalExperts and the router's dispatcher alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::model {

/// One token row sent to one expert of the layer at hand.
struct ExpertPair {
  std::uint32_t row = 0;
  std::uint32_t expert = 0;

  friend bool operator==(const ExpertPair&, const ExpertPair&) = default;
};

/// A counting sort, O(pairs + experts), and O(rows) more only if the pairs of an expert do not come
/// in the order of their rows. Keeps its room between calls; one user at a time.
class PairOrder {
 public:
  /// Sorts `pairs`, which may hold a pair twice. kInvalidArgument: a row not below `rows` or an
  /// expert not below `experts`; what was sorted before is then gone.
  base::Status sort(std::span<const ExpertPair> pairs, std::size_t rows, std::uint32_t experts);

  /// The pairs by rising (expert, row).
  [[nodiscard]] std::span<const ExpertPair> sorted() const { return sorted_; }

  /// For each pair as it was given: its index in sorted().
  [[nodiscard]] std::span<const std::uint32_t> places() const { return places_; }

  /// The pairs of `expert` (below the number of experts) are sorted()[first, first + count).
  struct Run {
    std::size_t first = 0;
    std::size_t count = 0;
  };
  [[nodiscard]] Run run(std::uint32_t expert) const {
    return {first_[expert], first_[expert + 1] - std::size_t{first_[expert]}};
  }

 private:
  void place_by_row(std::span<const ExpertPair> pairs, std::size_t rows);

  std::vector<ExpertPair> sorted_;
  std::vector<std::uint32_t> places_;
  std::vector<std::uint32_t> first_;   // (experts + 1): where the run of an expert begins
  std::vector<std::uint32_t> next_;    // a cursor for each expert or row while placing
  std::vector<std::uint32_t> by_row_;  // the pairs' indices in the order of their rows
};

}  // namespace conclave::model
