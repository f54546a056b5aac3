#include "scheduler_metrics.hpp"

#include <gmock/gmock.h>

namespace conclave::scheduler {
namespace {

using testing::HasSubstr;
using testing::Not;

ModelNumbers numbers(const std::string& model, std::uint32_t experts) {
  ModelNumbers numbers{model, {{1, 1.5, 0.75}}, {}};
  for (std::uint32_t index = 0; index < experts; ++index) {
    numbers.experts.push_back({1, index, 2, 10.0 + index, 2e-5});
  }
  return numbers;
}

TEST(SchedulerMetricsTest, ShowsExpertsAndForgetsThemWithTheirModel) {
  telemetry::Metrics metrics;
  SchedulerMetrics shown(metrics, 4);

  shown.show(std::vector{numbers("m:1", 2), numbers("m:2", 2)});

  EXPECT_THAT(metrics.expose(),
              HasSubstr("conclave_scheduler_expert_pairs_per_second{expert=\"1\",layer=\"1\","
                        "model=\"m:1\"} 11\n"));
  EXPECT_THAT(metrics.expose(),
              HasSubstr("conclave_scheduler_expert_replicas{expert=\"0\",layer=\"1\","
                        "model=\"m:2\"} 2\n"));
  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_scheduler_expert_series_left_out 0\n"));

  shown.show(std::vector{numbers("m:2", 2)});

  EXPECT_THAT(metrics.expose(), Not(HasSubstr("m:1")));
  EXPECT_THAT(metrics.expose(), HasSubstr("m:2"));
}

TEST(SchedulerMetricsTest, ShowsLayersOnlyOfModelsWithTooManyExperts) {
  telemetry::Metrics metrics;
  SchedulerMetrics shown(metrics, 4);

  shown.show(std::vector{numbers("m:1", 5)});

  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_scheduler_expert_series_left_out 5\n"));
  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_scheduler_layer_load_max_over_mean{layer=\"1\","
                                          "model=\"m:1\"} 1.5\n"));
  EXPECT_THAT(metrics.expose(), Not(HasSubstr("expert=")));
}

}  // namespace
}  // namespace conclave::scheduler
