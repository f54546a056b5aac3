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

SchedulerMetrics::SchedulerMetrics(telemetry::Metrics& metrics)
    : metrics_(metrics),
      leading_(metrics.gauge("conclave_scheduler_leading", "1 while this scheduler leads")),
      term_(metrics.gauge("conclave_scheduler_term",
                          "Term of the scheduler that leads; 0 where there is only one")),
      epoch_(metrics.gauge("conclave_scheduler_epoch", "Epoch of the newest table or assignment")),
      versions_(metrics.gauge("conclave_scheduler_versions", "Versions served, or on the way")),
      experts_(metrics.gauge("conclave_scheduler_experts", "Experts of all versions")),
      experts_ready_(
          metrics.gauge("conclave_scheduler_experts_ready", "Experts with a ready copy")),
      moves_(metrics.counter("conclave_scheduler_moves_total",
                             "Experts that a plan gave to a worker which did not have them")),
      plans_(metrics.counter("conclave_scheduler_plans_total", "Placements planned")),
      failed_steps_(metrics.counter("conclave_scheduler_failed_steps_total",
                                    "Loads that a worker refused or did not finish in time")),
      lost_workers_(metrics.gauge("conclave_scheduler_lost_workers",
                                  "Workers with a lease that routers do not reach")),
      refused_(metrics.counter("conclave_scheduler_reports_refused_total",
                               "Reports of nodes that have no place in the fleet")) {}

void SchedulerMetrics::lead(bool leads, std::uint64_t term) {
  leading_.set(leads ? 1 : 0);
  term_.set(static_cast<double>(term));
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
  failed_steps_.add(static_cast<double>(stats.failed_steps_total - shown_.failed_steps_total));
  lost_workers_.set(stats.lost_workers);
  shown_ = stats;
}

}  // namespace conclave::scheduler
