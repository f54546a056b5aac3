// The scheduler's numbers: the only place that knows their names.
#pragma once

#include "conclave/telemetry/metrics.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler {

/// One thread shows, any thread scrapes.
class SchedulerMetrics {
 public:
  explicit SchedulerMetrics(telemetry::Metrics& metrics);
  void show(const SchedulerStats& stats);

 private:
  telemetry::Metrics& metrics_;
  telemetry::Gauge& epoch_;
  telemetry::Gauge& versions_;
  telemetry::Gauge& experts_;
  telemetry::Gauge& experts_ready_;
  telemetry::Counter& moves_;
  telemetry::Counter& plans_;
  telemetry::Counter& refused_;
  SchedulerStats shown_;  // counters are raised by what is new
};

}  // namespace conclave::scheduler
