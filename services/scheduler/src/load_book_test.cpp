#include "load_book.hpp"

#include <gmock/gmock.h>

namespace conclave::scheduler {
namespace {

using namespace std::chrono_literals;

constexpr Time kStart{1h};

wire::HostedModel hosted(std::vector<std::uint64_t> pairs) {
  wire::HostedModel hosted;
  hosted.ready = wire::ExpertBits(2, 2);
  for (std::uint32_t i = 0; i < pairs.size(); ++i) hosted.ready.set(i / 2, i % 2);
  hosted.expert_pairs = std::move(pairs);
  return hosted;
}

placement::PlanRequest request() {
  placement::PlanRequest request;
  request.shape = {"m", 2, 0, 2, 1000};
  for (const char* name : {"a", "b"}) {
    placement::PlanWorker worker;
    worker.name = name;
    worker.memory_bytes = 1'000'000;
    worker.resident = worker.assigned = wire::ExpertBits(2, 2);
    request.workers.push_back(worker);
  }
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    request.workers[0].assigned.set(layer, 0);
    request.workers[1].assigned.set(layer, 1);
  }
  return request;
}

double total(const LoadBook& book) {
  double sum = 0;
  for (const double load : book.loads()) sum += load;
  return sum;
}

TEST(LoadBookTest, CountsWhatWasComputedBetweenTwoReports) {
  LoadBook book(2, 2, 1s, kStart);
  book.observe("a", 1, hosted({100, 200, 300, 400}));  // of before: says nothing
  book.observe("a", 1, hosted({110, 220, 300, 400}));
  EXPECT_FALSE(book.judge(request(), kStart + 500ms));  // the window is open

  EXPECT_FALSE(book.judge(request(), kStart + 1s));

  const auto loads = book.loads();
  EXPECT_GT(loads[0], 0);
  EXPECT_NEAR(loads[1], 2 * loads[0], 1e-6);
  EXPECT_EQ(loads[2], 0);
}

TEST(LoadBookTest, ARestartOrANewModelIsNoLoad) {
  LoadBook book(2, 2, 1s, kStart);
  book.observe("a", 1, hosted({100}));
  book.observe("a", 2, hosted({900}));     // another life
  book.observe("a", 2, hosted({5}));       // opened the model anew
  book.observe("a", 2, hosted({5, 700}));  // hosts one more
  wire::HostedModel foreign;
  foreign.ready = wire::ExpertBits(7, 7);
  book.observe("b", 1, foreign);

  (void)book.judge(request(), kStart + 1s);

  EXPECT_EQ(total(book), 0);
}

TEST(LoadBookTest, AsksForAPlanOnceALoadThatDoesNotFitLasts) {
  LoadBook book(2, 2, 1s, kStart);
  placement::Plan even;
  even.after.mean = 1.0;
  std::uint64_t hot = 0;
  book.observe("a", 1, hosted({0, 0, 0, 0}));
  book.observe("a", 1, hosted({1000, 1000, 1000, 1000}));
  (void)book.judge(request(), kStart + 1s);
  book.planned(even);

  int asked = 0;
  for (int window = 2; window < 20; ++window) {
    hot += 50'000;
    book.observe("a", 1, hosted({1000 + hot, 1000, 1000 + hot, 1000}));
    asked += book.judge(request(), kStart + std::chrono::seconds(window)) ? 1 : 0;
  }

  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace conclave::scheduler
