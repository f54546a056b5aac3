#include "conclave/telemetry/metrics.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "conclave/base/utf8.hpp"

namespace conclave::telemetry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(MetricsTest, ExposesCountersAndGaugesInThePrometheusTextFormat) {
  Metrics metrics;
  metrics.counter("conclave_pairs_total", "Pairs computed", {{"device", "cpu"}}).add(3);
  metrics.gauge("vllm:num_requests_running", "Requests in the batch").set(2.5);
  EXPECT_EQ(metrics.expose(),
            "# HELP conclave_pairs_total Pairs computed\n"
            "# TYPE conclave_pairs_total counter\n"
            "conclave_pairs_total{device=\"cpu\"} 3\n"
            "# HELP vllm:num_requests_running Requests in the batch\n"
            "# TYPE vllm:num_requests_running gauge\n"
            "vllm:num_requests_running 2.5\n");
}

TEST(MetricsTest, ExposesHistogramsWithCumulativeBuckets) {
  Metrics metrics;
  Histogram& seconds = metrics.histogram("conclave_step_seconds", "Time of a step", {0.1, 1});
  seconds.observe(0.05);
  seconds.observe(0.5);
  seconds.observe(5);
  const std::string text = metrics.expose();
  EXPECT_THAT(text, HasSubstr("# TYPE conclave_step_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("conclave_step_seconds_count 3\nconclave_step_seconds_sum 5.55\n"));
  EXPECT_THAT(text, HasSubstr("conclave_step_seconds_bucket{le=\"0.1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("conclave_step_seconds_bucket{le=\"1\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("conclave_step_seconds_bucket{le=\"+Inf\"} 3\n"));
}

TEST(MetricsTest, GivesTheSameHandleForTheSameNameAndLabels) {
  Metrics metrics;
  Counter& first = metrics.counter("conclave_calls_total", "Calls", {{"peer", "a"}});
  Counter& other = metrics.counter("conclave_calls_total", "Calls", {{"peer", "b"}});
  EXPECT_EQ(&first, &metrics.counter("conclave_calls_total", "Calls", {{"peer", "a"}}));
  EXPECT_NE(&first, &other);
  first.add();
  first.add(2);
  EXPECT_EQ(first.value(), 3);
  EXPECT_EQ(other.value(), 0);
}

TEST(MetricsTest, EscapesAndRepairsLabelValues) {
  Metrics metrics;
  metrics.counter("conclave_calls_total", "Calls", {{"model", "a\"b\\c\nd\xff"}}).add();
  metrics.counter("conclave_calls_total", "Calls", {{"model", std::string(5000, 'x')}}).add();
  const std::string text = metrics.expose();
  EXPECT_THAT(text, HasSubstr("{model=\"a\\\"b\\\\c?d\xEF\xBF\xBD\"} 1\n"));
  EXPECT_TRUE(base::utf8::valid(text));
  EXPECT_LT(text.size(), 1000u);
}

TEST(MetricsTest, FoldsSeriesBeyondTheBoundIntoOne) {
  Metrics metrics;
  for (std::size_t i = 0; i < kSeriesPerNameMax + 50; ++i) {
    metrics.counter("conclave_calls_total", "Calls", {{"key", std::to_string(i)}}).add();
  }
  EXPECT_EQ(metrics.counter("conclave_calls_total", "Calls", {{"key", "other"}}).value(), 50);
  EXPECT_EQ(metrics.counter("conclave_calls_total", "Calls", {{"key", "0"}}).value(), 1);
}

TEST(MetricsTest, RaisesACounterToWhatAnotherOneCounts) {
  Metrics metrics;
  Counter& steps = metrics.counter("conclave_steps_total", "Steps");
  steps.raise_to(5);
  EXPECT_EQ(steps.value(), 5);
  steps.raise_to(3);
  EXPECT_EQ(steps.value(), 5) << "a counter never falls";
  steps.raise_to(7);
  EXPECT_EQ(steps.value(), 7);
}

TEST(MetricsTest, ATableIsAllThatItsNameHas) {
  Metrics metrics;
  metrics.table("conclave_copies", "Copies", {{{{"expert", "0"}}, 2}, {{{"expert", "1"}}, 3}});
  EXPECT_EQ(metrics.expose(),
            "# HELP conclave_copies Copies\n# TYPE conclave_copies gauge\n"
            "conclave_copies{expert=\"0\"} 2\nconclave_copies{expert=\"1\"} 3\n");

  metrics.table("conclave_copies", "Copies", {{{{"expert", "1"}}, 1}});

  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_copies{expert=\"1\"} 1\n"));
  EXPECT_THAT(metrics.expose(), testing::Not(HasSubstr("expert=\"0\"")));
}

TEST(MetricsTest, ATableHasNoMoreThanItsBound) {
  Metrics metrics;
  std::vector<Metrics::Sample> samples;
  for (std::size_t i = 0; i <= kSeriesPerNameMax; ++i) {
    samples.push_back({{{"expert", std::to_string(i)}}, 1});
  }
  metrics.table("conclave_copies", "Copies", samples);
  const std::string text = metrics.expose();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), kSeriesPerNameMax + 2);
}

TEST(MetricsTest, CallsScrapeHooksBeforeEveryExpositionWhileTheyLive) {
  Metrics metrics;
  Gauge& depth = metrics.gauge("conclave_queue_depth", "Requests that wait");
  std::optional<Metrics::ScrapeHook> hook = metrics.on_scrape([&] { depth.add(1); });
  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_queue_depth 1\n"));
  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_queue_depth 2\n"));
  hook.reset();
  EXPECT_THAT(metrics.expose(), HasSubstr("conclave_queue_depth 2\n"));
}

TEST(MetricsTest, LosesNoCountOfManyThreads) {
  Metrics metrics;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&metrics, t] {
        for (int i = 0; i < 1000; ++i) {
          metrics.counter("conclave_calls_total", "Calls", {{"t", std::to_string(t % 2)}}).add();
          if (i % 100 == 0) {
            EXPECT_THAT(metrics.expose(), HasSubstr("conclave_calls_total"));
          }
        }
      });
    }
  }
  EXPECT_EQ(metrics.counter("conclave_calls_total", "Calls", {{"t", "0"}}).value(), 2000);
  EXPECT_EQ(metrics.counter("conclave_calls_total", "Calls", {{"t", "1"}}).value(), 2000);
}

TEST(MetricsTest, BucketsGrowByTheFactor) {
  EXPECT_THAT(exponential_buckets(0.5, 2, 4), ElementsAre(0.5, 1, 2, 4));
}

TEST(MetricsDeathTest, AbortsOnNamesThatAreBugsOfOurs) {
  Metrics metrics;
  metrics.counter("conclave_calls_total", "Calls");
  EXPECT_DEATH(metrics.counter("calls_total", "Calls"), "check failed");
  EXPECT_DEATH(metrics.counter("conclave_bad name", "Calls"), "check failed");
  EXPECT_DEATH(metrics.gauge("conclave_calls_total", "Calls"), "check failed");
  EXPECT_DEATH(metrics.counter("conclave_x_total", "X", {{"bad-label", ""}}), "check failed");
}

}  // namespace
}  // namespace conclave::telemetry
