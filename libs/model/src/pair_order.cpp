#include "conclave/model/pair_order.hpp"

#include <algorithm>
#include <numeric>
#include <string>

namespace conclave::model {

base::Status PairOrder::sort(std::span<const ExpertPair> pairs, std::size_t rows,
                             std::uint32_t experts) {
  sorted_.clear();
  places_.clear();
  first_.assign(std::size_t{experts} + 1, 0);
  bool rising = true;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    if (pairs[p].row >= rows || pairs[p].expert >= experts) {
      first_.assign(std::size_t{experts} + 1, 0);
      return base::fail(base::ErrorCode::kInvalidArgument,
                        "pair " + std::to_string(p) + " names row " + std::to_string(pairs[p].row) +
                            " of " + std::to_string(rows) + " and expert " +
                            std::to_string(pairs[p].expert) + " of " + std::to_string(experts));
    }
    ++first_[std::size_t{pairs[p].expert} + 1];
    rising = rising && (p == 0 || pairs[p - 1].row <= pairs[p].row);
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());

  // Each step of a counting sort keeps the order of equals, so rows rise within an expert when the
  // pairs are placed in the order of their rows. A gate lists them so already.
  by_row_.resize(pairs.size());
  std::iota(by_row_.begin(), by_row_.end(), 0u);
  if (!rising) place_by_row(pairs, rows);
  sorted_.resize(pairs.size());
  places_.resize(pairs.size());
  next_.assign(first_.begin(), first_.end() - 1);
  for (const std::uint32_t p : by_row_) {
    const std::uint32_t place = next_[pairs[p].expert]++;
    sorted_[place] = pairs[p];
    places_[p] = place;
  }
  return {};
}

// by_row_ = the indices of the pairs, by rising row.
void PairOrder::place_by_row(std::span<const ExpertPair> pairs, std::size_t rows) {
  next_.assign(rows + 1, 0);
  for (const ExpertPair& pair : pairs) ++next_[std::size_t{pair.row} + 1];
  std::partial_sum(next_.begin(), next_.end(), next_.begin());
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    by_row_[next_[pairs[p].row]++] = static_cast<std::uint32_t>(p);
  }
}

}  // namespace conclave::model
