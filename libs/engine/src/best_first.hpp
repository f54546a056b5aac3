// Where a running sum over tokens, taken from the best one down, reaches a bound: what top-k and
// top-p ask. The tokens are not sorted: they go into buckets of falling logits, whose sums lead to
// the one bucket that has to be looked into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace conclave::engine {

/// Best first means by falling logit, equal ones by rising index.
///
/// The order of additions is a function of the loaded values alone: within a bucket by rising
/// index, bucket by bucket from the best one, then best first within the one where the sum arrives.
/// One user at a time; the room it keeps grows with the candidates.
class BestFirst {
 public:
  struct Place {
    std::size_t index = 0;
    double sum = 0.0;  // of the weights up to this one, included
  };

  /// Takes candidates, at least one: finite logits and as many weights of 0 or more. Both are
  /// borrowed until the next call.
  void load(std::span<const float> logits, std::span<const float> weights);

  /// The first candidate, best first, at which the sum is at least `bound`; where rounding keeps
  /// it below, the last one looked at.
  Place find(double bound);

 private:
  void split_members(double bound, double& sum);

  std::span<const float> logits_;
  std::span<const float> weights_;
  bool in_buckets_ = false;               // else all are in members_
  std::vector<std::uint16_t> bucket_of_;  // of each candidate
  std::size_t last_ = 0;                  // the bucket of the worst
  std::vector<double> sums_;              // of the weights in each bucket
  std::vector<std::uint32_t> members_;    // those that are looked at one by one
};

}  // namespace conclave::engine
