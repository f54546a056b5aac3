// What a dashboard shows of a served model: where its experts are, how often they are asked for,
// and how long that takes. Decides nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "load_book.hpp"
#include "rollout.hpp"

namespace conclave::scheduler {

/// How long each worker takes for a pair now, from the totals that it reports: a mean that follows
/// within a few reports. One thread; bounded by the fleet.
class PairTimes {
 public:
  void observe(const wire::NodeReport& worker);
  void forget(const std::string& worker) { workers_.erase(worker); }
  /// Seconds; 0: it has computed nothing since it was first heard.
  [[nodiscard]] double of(const std::string& worker) const;

 private:
  struct Totals {
    std::uint64_t incarnation = 0;
    std::uint64_t pairs = 0;
    std::uint64_t compute_us = 0;
    double seconds = 0;  // for a pair
  };
  std::map<std::string, Totals> workers_;
};

struct ExpertNumbers {
  std::uint32_t layer = 0;
  std::uint32_t index = 0;
  std::uint32_t copies = 0;       // that are ready
  double pairs_per_second = 0;    // as the load book remembers
  double seconds_for_a_pair = 0;  // mean of the workers that have it; 0: not known
};

struct LayerNumbers {
  std::uint32_t layer = 0;
  double max_over_mean = 0;  // placement::LayerLoad
  double entropy = 0;
};

struct ModelNumbers {
  std::string model;  // name:version
  std::vector<LayerNumbers> layers;
  std::vector<ExpertNumbers> experts;  // of the layers that have some
};

ModelNumbers numbers_of(const Rollout& rollout, const LoadBook& loads, const PairTimes& times);

}  // namespace conclave::scheduler
