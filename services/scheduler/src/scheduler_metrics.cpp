#include "scheduler_metrics.hpp"

#include <string>

#include "reasons.hpp"

namespace conclave::scheduler {
namespace {

constexpr wire::NodeRole kRoles[] = {wire::NodeRole::kGateway, wire::NodeRole::kRouter,
                                     wire::NodeRole::kExpertWorker, wire::NodeRole::kRegistry};
constexpr wire::NodeState kStates[] = {wire::NodeState::kStarting, wire::NodeState::kReady,
                                       wire::NodeState::kDraining};

}  // namespace

SchedulerMetrics::SchedulerMetrics(telemetry::Metrics& metrics, std::size_t experts_max)
    : metrics_(metrics),
      experts_max_(experts_max),
      epoch_(metrics.gauge("conclave_scheduler_epoch", "Epoch of the newest table or assignment")),
      versions_(metrics.gauge("conclave_scheduler_versions", "Versions served, or on the way")),
      experts_(metrics.gauge("conclave_scheduler_experts", "Experts of all versions")),
      experts_ready_(
          metrics.gauge("conclave_scheduler_experts_ready", "Experts with a ready copy")),
      moves_(metrics.counter("conclave_scheduler_moves_total",
                             "Experts that a plan gave to a worker which did not have them")),
      plans_(metrics.counter("conclave_scheduler_plans_total", "Placements planned")),
      refused_(metrics.counter("conclave_scheduler_reports_refused_total",
                               "Reports of nodes that have no place in the fleet")),
      left_out_(metrics.gauge("conclave_scheduler_expert_series_left_out",
                              "Experts that are not shown one by one, as there are too many")) {
  show(std::span<const ModelNumbers>());
}

void SchedulerMetrics::show(const SchedulerStats& stats) {
  for (const wire::NodeRole role : kRoles) {
    for (const wire::NodeState state : kStates) {
      const auto count = stats.nodes.find({role, state});
      metrics_
          .gauge("conclave_scheduler_nodes", "Nodes with a lease",
                 {{"role", std::string(to_string(role))}, {"state", std::string(name_of(state))}})
          .set(count == stats.nodes.end() ? 0 : count->second);
    }
  }
  epoch_.set(static_cast<double>(stats.epoch));
  versions_.set(stats.versions);
  experts_.set(stats.experts_total);
  experts_ready_.set(stats.experts_ready);
  moves_.add(static_cast<double>(stats.moves_total - shown_.moves_total));
  plans_.add(static_cast<double>(stats.plans_total - shown_.plans_total));
  refused_.add(static_cast<double>(stats.refused_total - shown_.refused_total));
  shown_ = stats;
}

void SchedulerMetrics::show(std::span<const ModelNumbers> models) {
  using Samples = std::vector<telemetry::Metrics::Sample>;
  std::size_t experts = 0;
  for (const ModelNumbers& model : models) experts += model.experts.size();
  const bool one_by_one = experts <= experts_max_;
  left_out_.set(one_by_one ? 0 : static_cast<double>(experts));
  Samples imbalance, entropy, copies, pairs, seconds;
  for (const ModelNumbers& model : models) {
    for (const LayerNumbers& layer : model.layers) {
      const telemetry::Labels labels{{"model", model.model},
                                     {"layer", std::to_string(layer.layer)}};
      imbalance.push_back({labels, layer.max_over_mean});
      entropy.push_back({labels, layer.entropy});
    }
    if (!one_by_one) continue;
    for (const ExpertNumbers& expert : model.experts) {
      const telemetry::Labels labels{{"model", model.model},
                                     {"layer", std::to_string(expert.layer)},
                                     {"expert", std::to_string(expert.index)}};
      copies.push_back({labels, static_cast<double>(expert.copies)});
      pairs.push_back({labels, expert.pairs_per_second});
      seconds.push_back({labels, expert.seconds_for_a_pair});
    }
  }
  metrics_.table("conclave_scheduler_layer_load_max_over_mean",
                 "Load of a layer's hottest expert by the mean of all; 0: no load", imbalance);
  metrics_.table("conclave_scheduler_layer_load_entropy",
                 "How even a layer's load is: 1 all experts alike, 0 all to one", entropy);
  metrics_.table("conclave_scheduler_expert_replicas", "Ready copies of an expert", copies);
  metrics_.table("conclave_scheduler_expert_pairs_per_second",
                 "Pairs of an expert, exponentially decayed", pairs);
  metrics_.table("conclave_scheduler_expert_pair_seconds",
                 "Mean time for a pair of the workers that have an expert; 0: not known", seconds);
}

}  // namespace conclave::scheduler
