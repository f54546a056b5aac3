#include "expert_numbers.hpp"

namespace conclave::scheduler {

namespace {

// What a new report weighs: one busy second is not a trend, ten are.
constexpr double kNewWeight = 0.3;

}  // namespace

void PairTimes::observe(const wire::NodeReport& worker) {
  Totals& known = workers_[worker.node];
  const std::uint64_t pairs = worker.load.pairs_total;
  const std::uint64_t compute_us = worker.load.compute_us_total;
  const bool goes_on = known.incarnation == worker.incarnation && pairs >= known.pairs &&
                       compute_us >= known.compute_us;
  if (goes_on && pairs > known.pairs) {
    const double seconds = static_cast<double>(compute_us - known.compute_us) * 1e-6 /
                           static_cast<double>(pairs - known.pairs);
    known.seconds =
        known.seconds == 0 ? seconds : kNewWeight * seconds + (1 - kNewWeight) * known.seconds;
  }
  if (!goes_on) known.seconds = 0;
  known.incarnation = worker.incarnation;
  known.pairs = pairs;
  known.compute_us = compute_us;
}

double PairTimes::of(const std::string& worker) const {
  const auto known = workers_.find(worker);
  return known == workers_.end() ? 0 : known->second.seconds;
}

ModelNumbers numbers_of(const Rollout& rollout, const LoadBook& loads, const PairTimes& times) {
  const ServedModel& served = rollout.model();
  ModelNumbers numbers;
  numbers.model = served.version.name + ":" + std::to_string(served.version.version);
  const std::vector<double> pairs_per_second = loads.loads();
  for (std::uint32_t layer = served.shape.dense_layers; layer < served.shape.layers; ++layer) {
    const placement::LayerLoad load = loads.window().layer(layer);
    numbers.layers.push_back({layer, load.max_over_mean, load.entropy});
    for (std::uint32_t index = 0; index < served.shape.experts; ++index) {
      ExpertNumbers expert{.layer = layer, .index = index};
      expert.pairs_per_second = pairs_per_second[std::size_t{layer} * served.shape.experts + index];
      double seconds = 0;
      std::uint32_t timed = 0;
      for (const std::string& worker : rollout.hosts_of(layer, index)) {
        ++expert.copies;
        const double own = times.of(worker);
        seconds += own;
        if (own > 0) ++timed;
      }
      if (timed > 0) expert.seconds_for_a_pair = seconds / timed;
      numbers.experts.push_back(expert);
    }
  }
  return numbers;
}

}  // namespace conclave::scheduler
