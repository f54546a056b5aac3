// Whose turn it is.
#include <algorithm>
#include <limits>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;
using testing::ElementsAre;

SequenceRequest with_priority(std::int32_t priority, std::uint32_t max_tokens = 2) {
  SequenceRequest request = endless("Hello", max_tokens);
  request.priority = priority;
  return request;
}

struct BatcherPriorityTest : BatchTest {
  // The sequences in the order of their first tokens.
  std::vector<SequenceId> order() {
    std::vector<SequenceId> order;
    while (batcher->has_work()) {
      for (const TokenEvent& event : batcher->step()) {
        if (std::ranges::find(order, event.id) == order.end()) order.push_back(event.id);
      }
    }
    return order;
  }
};

TEST_F(BatcherPriorityTest, LowerGoesFirstAndInOrderWithinOne) {
  start({.sequences_max = 1});
  const SequenceId a = submit(with_priority(1));
  const SequenceId b = submit(with_priority(0));
  const SequenceId c = submit(with_priority(-5));
  const SequenceId d = submit(with_priority(0));
  const SequenceId e = submit(with_priority(1));
  EXPECT_THAT(order(), ElementsAre(c, b, d, a, e));
}

TEST_F(BatcherPriorityTest, TheBetterTakesTheOnlyPlaceAndTheOtherGoesOnAfterwards) {
  const Outcome expected = alone(with_priority(3, 40));
  start({.sequences_max = 1});
  const SequenceId low = submit(with_priority(3, 40));
  for (int i = 0; i < 10; ++i) step();
  const SequenceId high = submit(with_priority(0, 4));
  step();
  EXPECT_TRUE(outcomes.contains(high));
  while (outcomes[high].finish == FinishReason::kNone) {
    EXPECT_EQ(outcomes[low].tokens.size(), 10u);
    step();
  }
  finish();
  expect_same(outcomes[low], expected);
  EXPECT_EQ(batcher->stats().preemptions, 1u);
}

TEST_F(BatcherPriorityTest, EqualsDoNotTakeEachOthersPlaces) {
  start({.sequences_max = 1});
  const SequenceId first = submit(with_priority(0, 8));
  step();
  const SequenceId second = submit(with_priority(0, 2));
  EXPECT_THAT(order(), ElementsAre(first, second));
  EXPECT_EQ(batcher->stats().preemptions, 0u);
}

TEST_F(BatcherPriorityTest, NobodyWaitsForEver) {
  start({.sequences_max = 64, .waiting_max = 2000});
  SequenceRequest request = with_priority(1, 1);
  request.prompt = {40};
  const SequenceId patient = submit(request);
  request.priority = 0;
  for (int i = 0; i < 1100; ++i) submit(request);
  const std::vector<SequenceId> all = order();
  // Those that came less than kAgingRequests places later went before it.
  EXPECT_EQ(std::ranges::find(all, patient) - all.begin(), 1023);
}

TEST_F(BatcherPriorityTest, AnyNumberIsAPriority) {
  start({.sequences_max = 1});
  const SequenceId last = submit(with_priority(std::numeric_limits<std::int32_t>::max()));
  const SequenceId first = submit(with_priority(std::numeric_limits<std::int32_t>::min()));
  EXPECT_THAT(order(), ElementsAre(first, last));
}

TEST_F(BatcherPriorityTest, PromptsTakeTurnsSoThatAShortOneNeedNotWaitForALongOne) {
  start({.sequences_max = 4, .step_rows_max = 16});
  SequenceRequest longest = endless(std::string(400, 'x'), 2);
  SequenceRequest shortest = endless("Hello", 2);
  const SequenceId slow = submit(longest);
  step();
  const SequenceId quick = submit(shortest);
  std::size_t steps = 0;
  while (outcomes[quick].tokens.empty()) {
    step();
    ++steps;
  }
  const std::size_t needed = (shortest.prompt.size() + 15) / 16;
  EXPECT_LE(steps, 2 * needed + 1);
  EXPECT_TRUE(outcomes[slow].tokens.empty());
}

TEST_F(BatcherPriorityTest, ABetterPromptIsReadFirst) {
  start({.sequences_max = 4, .step_rows_max = 16});
  SequenceRequest low = endless(std::string(100, 'x'), 2);
  low.priority = 1;
  const SequenceId second = submit(low);
  step();
  SequenceRequest high = endless(std::string(100, 'y'), 2);
  const SequenceId first = submit(high);
  EXPECT_THAT(order(), ElementsAre(first, second));
}

}  // namespace
}  // namespace conclave::engine
