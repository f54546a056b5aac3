// The scheduler's numbers: the only place that knows their names.
#pragma once

#include <span>

#include "conclave/telemetry/metrics.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler {

/// One thread shows, any thread scrapes.
class SchedulerMetrics {
 public:
  /// `experts_max`: SchedulerSettings::expert_series_max.
  SchedulerMetrics(telemetry::Metrics& metrics, std::size_t experts_max);
  void show(const SchedulerStats& stats);
  /// Of all versions: what is not in it any more is not shown any more. Experts one by one, if
  /// there are no more than `experts_max`.
  void show(std::span<const ModelNumbers> models);

 private:
  telemetry::Metrics& metrics_;
  std::size_t experts_max_;
  telemetry::Gauge& epoch_;
  telemetry::Gauge& versions_;
  telemetry::Gauge& experts_;
  telemetry::Gauge& experts_ready_;
  telemetry::Counter& moves_;
  telemetry::Counter& plans_;
  telemetry::Counter& refused_;
  telemetry::Gauge& left_out_;
  SchedulerStats shown_;  // counters are raised by what is new
};

}  // namespace conclave::scheduler
