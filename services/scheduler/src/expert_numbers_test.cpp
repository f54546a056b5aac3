#include "expert_numbers.hpp"

#include <gmock/gmock.h>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using test::FakeFleet;
using namespace std::chrono_literals;

wire::NodeReport report_of(std::uint64_t pairs, std::uint64_t compute_us,
                           std::uint64_t incarnation = 1) {
  wire::NodeReport report;
  report.node = "a";
  report.incarnation = incarnation;
  report.load.pairs_total = pairs;
  report.load.compute_us_total = compute_us;
  return report;
}

TEST(PairTimesTest, SaysHowLongAPairTakesOfWhatIsNew) {
  PairTimes times;
  times.observe(report_of(1000, 5'000'000));
  EXPECT_EQ(times.of("a"), 0) << "what was before it was first heard says nothing about now";

  times.observe(report_of(1100, 5'002'000));
  EXPECT_NEAR(times.of("a"), 20e-6, 1e-12);

  times.observe(report_of(1100, 5'002'000));
  EXPECT_NEAR(times.of("a"), 20e-6, 1e-12) << "an idle worker is as fast as it was";

  for (std::uint64_t i = 1; i <= 20; ++i)
    times.observe(report_of(1100 + 10 * i, 5'002'000 + i * 400));
  EXPECT_NEAR(times.of("a"), 40e-6, 1e-6) << "follows";
}

TEST(PairTimesTest, StartsAnewWithAWorkersNewLife) {
  PairTimes times;
  times.observe(report_of(0, 0));
  times.observe(report_of(10, 100));
  times.observe(report_of(5, 50, 2));
  EXPECT_EQ(times.of("a"), 0);
  times.observe(report_of(15, 250, 2));
  EXPECT_NEAR(times.of("a"), 20e-6, 1e-12);
  times.forget("a");
  EXPECT_EQ(times.of("a"), 0);
}

TEST(ExpertNumbersTest, AreThoseOfEveryExpertThatThereIs) {
  FakeFleet fleet;
  test::FakeWorker& a = fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.run(5s);
  const auto idle = fleet.core_->model_numbers();
  ASSERT_EQ(idle.size(), 1u);
  EXPECT_EQ(idle[0].model, "m:1");
  EXPECT_EQ(idle[0].layers.size(), 3u);  // of four, one is dense
  ASSERT_EQ(idle[0].experts.size(), 24u);
  for (const ExpertNumbers& expert : idle[0].experts) {
    EXPECT_EQ(expert.copies, 1u);
    EXPECT_EQ(expert.pairs_per_second, 0);
  }

  bool is_first = true;
  std::pair<std::uint32_t, std::uint32_t> hot;
  for_each(a.hosted(), [&](std::uint32_t layer, std::uint32_t index) {
    if (std::exchange(is_first, false)) hot = {layer, index};
  });
  a.pairs[hot] += 5000;
  fleet.run(20s);

  const auto busy = fleet.core_->model_numbers();
  for (const ExpertNumbers& expert : busy.at(0).experts) {
    const bool is_hot = std::pair(expert.layer, expert.index) == hot;
    EXPECT_EQ(expert.pairs_per_second > 0, is_hot) << expert.layer << ", " << expert.index;
  }
}

}  // namespace
}  // namespace conclave::scheduler
