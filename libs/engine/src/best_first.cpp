#include "best_first.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace conclave::engine {
namespace {

// Of 50,000 logits that spread evenly, a bucket has 50; the sums of all stay in the first cache.
constexpr std::size_t kBuckets = 1024;
// So many are sorted faster than split again.
constexpr std::size_t kSortedMax = 64;

// Candidates that one comparison of registers looks at; what fills up the last of them.
constexpr std::size_t kStride = 32;
constexpr std::uint16_t kNoBucket = kBuckets;

struct Range {
  float best;
  float worst;
};

// at(i), i in [0, count), are the logits. Eight lanes, so that comparisons need not wait.
template <class At>
Range range_of(std::size_t count, At at) {
  constexpr std::size_t kLanes = 8;
  float best[kLanes];
  float worst[kLanes];
  for (std::size_t lane = 0; lane < kLanes; ++lane) best[lane] = worst[lane] = at(0);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = at(i + lane);
      best[lane] = value > best[lane] ? value : best[lane];
      worst[lane] = value < worst[lane] ? value : worst[lane];
    }
  }
  Range range{*std::max_element(best, best + kLanes), *std::min_element(worst, worst + kLanes)};
  for (; i < count; ++i) {
    range.best = std::max(range.best, at(i));
    range.worst = std::min(range.worst, at(i));
  }
  return range;
}

// The bucket of a logit: rises, or stays, as logits fall. Halves, as the difference of two floats
// can be above the largest one.
class Split {
 public:
  explicit Split(const Range& range)
      : best_(0.5f * range.best),
        // Ranges too narrow for their inverse to be finite end up in one bucket.
        scale_(std::min(1e30f, (kBuckets - 1) / (best_ - 0.5f * range.worst))) {}

  std::uint16_t operator()(float logit) const {
    return static_cast<std::uint16_t>(static_cast<std::int32_t>((best_ - 0.5f * logit) * scale_));
  }

 private:
  float best_;
  float scale_;
};

// The bucket in which the sum reaches the bound; `sum` becomes that of those before it.
std::size_t find_bucket(std::span<const double> sums, std::size_t last, double bound, double& sum) {
  std::size_t bucket = 0;
  while (bucket < last && sum + sums[bucket] < bound) sum += sums[bucket++];
  return bucket;
}

}  // namespace

void BestFirst::load(std::span<const float> logits, std::span<const float> weights) {
  logits_ = logits;
  weights_ = weights;
  const Range range = range_of(logits.size(), [&](std::size_t i) { return logits[i]; });
  in_buckets_ = logits.size() > kSortedMax && range.best != range.worst;
  if (!in_buckets_) {
    members_.resize(logits.size());
    std::iota(members_.begin(), members_.end(), 0u);
    return;
  }
  const Split split(range);
  last_ = split(range.worst);
  bucket_of_.assign((logits.size() + kStride - 1) / kStride * kStride, kNoBucket);
  for (std::size_t i = 0; i < logits.size(); ++i) bucket_of_[i] = split(logits[i]);
  sums_.assign(kBuckets, 0.0);
  for (std::size_t i = 0; i < logits.size(); ++i) sums_[bucket_of_[i]] += double{weights[i]};
}

BestFirst::Place BestFirst::find(double bound) {
  double sum = 0.0;
  if (in_buckets_) {
    const auto wanted = static_cast<std::uint16_t>(find_bucket(sums_, last_, bound, sum));
    members_.clear();
    for (std::size_t begin = 0; begin < bucket_of_.size(); begin += kStride) {
      std::uint16_t hit = 0;
      for (std::size_t i = 0; i < kStride; ++i) {
        hit = static_cast<std::uint16_t>(hit | (bucket_of_[begin + i] == wanted ? 1 : 0));
      }
      if (hit == 0) continue;
      for (std::size_t i = begin; i < begin + kStride; ++i) {
        if (bucket_of_[i] == wanted) members_.push_back(static_cast<std::uint32_t>(i));
      }
    }
  }
  split_members(bound, sum);
  Place place{members_.front(), sum};
  for (const std::uint32_t index : members_) {
    place.index = index;
    place.sum += double{weights_[index]};
    if (place.sum >= bound) break;
  }
  return place;
}

// Leaves, best first, the members among which the sum reaches the bound.
void BestFirst::split_members(double bound, double& sum) {
  const auto better = [this](std::uint32_t a, std::uint32_t b) {
    return logits_[a] != logits_[b] ? logits_[a] > logits_[b] : a < b;
  };
  while (members_.size() > kSortedMax) {
    const Range range =
        range_of(members_.size(), [&](std::size_t i) { return logits_[members_[i]]; });
    if (range.best == range.worst) return;  // they are in order
    const Split split(range);
    std::array<double, kBuckets> sums{};
    for (const std::uint32_t index : members_) {
      sums[split(logits_[index])] += double{weights_[index]};
    }
    const std::size_t last = split(range.worst);
    const std::size_t wanted = find_bucket(sums, last, bound, sum);
    const std::size_t erased = std::erase_if(
        members_, [&](std::uint32_t index) { return split(logits_[index]) != wanted; });
    if (erased == 0) break;
  }
  std::sort(members_.begin(), members_.end(), better);
}

}  // namespace conclave::engine
