#include "bench_tally.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace conclave::cli {
namespace {

// An answer whose pieces came at `times`.
AnswerReader answer(const std::vector<double>& times, const std::string& usage = "") {
  AnswerReader reader;
  reader.begin(true);
  for (const double at : times) {
    EXPECT_TRUE(reader.push("data: {\"choices\":[{\"text\":\"a\"}]}\n\n", at));
  }
  if (!usage.empty()) {
    EXPECT_TRUE(reader.push("data: {\"usage\":" + usage + "}\n\n", 0.0));
  }
  return reader;
}

TEST(LoadTallyTest, CountsFromWhenARequestWasDue) {
  LoadTally tally({});
  tally.completed(1.0, 3.0, answer({1.5, 2.0, 3.0}), 10);
  const LoadReport report = tally.report(4.0);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_DOUBLE_EQ(report.ttft_s.mean, 0.5);
  EXPECT_DOUBLE_EQ(report.itl_s.mean, 0.75);
  EXPECT_DOUBLE_EQ(report.e2e_s.mean, 2.0);
  EXPECT_DOUBLE_EQ(report.requests_per_s, 0.25);
  EXPECT_DOUBLE_EQ(report.output_tokens_per_s, 0.75);
  EXPECT_DOUBLE_EQ(report.total_tokens_per_s, 13.0 / 4.0);
  EXPECT_FALSE(report.cached_tokens);
}

TEST(LoadTallyTest, BelievesTheServersCounts) {
  LoadTally tally({});
  const std::string usage = R"({"prompt_tokens":12,"completion_tokens":5,)"
                            R"("prompt_tokens_details":{"cached_tokens":8}})";
  tally.completed(0.0, 1.0, answer({0.5}, usage), 10);
  tally.completed(0.0, 1.0, answer({0.5}, R"({"prompt_tokens":12,"completion_tokens":5})"), 10);
  const LoadReport report = tally.report(1.0);
  EXPECT_EQ(report.prompt_tokens, 24u);
  EXPECT_EQ(report.output_tokens, 10u);
  EXPECT_EQ(report.cached_tokens, 8u);
}

TEST(LoadTallyTest, GoodRequestsMeetBothBounds) {
  LoadTally tally({.ttft_s = 1.0, .itl_s = 0.5});
  tally.completed(0.0, 9.0, answer({1.0, 1.5}), 1);        // just so
  tally.completed(0.0, 9.0, answer({1.0, 1.25, 2.0}), 1);  // one gap too long, the mean is not
  tally.completed(0.0, 9.0, answer({1.1, 1.2}), 1);        // begins late
  tally.completed(0.0, 9.0, answer({0.5, 1.5}), 1);        // goes on slowly
  tally.completed(0.5, 9.0, answer({1.2}), 1);             // one token has no gap
  tally.failed("timeout", "");
  const LoadReport report = tally.report(2.0);
  EXPECT_DOUBLE_EQ(report.good_per_s, 1.5);
  EXPECT_DOUBLE_EQ(report.requests_per_s, 2.5);
}

TEST(LoadTallyTest, WithoutBoundsEveryAnswerIsGood) {
  LoadTally tally({});
  tally.completed(0.0, 9.0, answer({8.0}), 1);
  EXPECT_DOUBLE_EQ(tally.report(1.0).good_per_s, 1.0);
}

TEST(LoadTallyTest, FailuresAreCountedByKind) {
  LoadTally tally({});
  tally.failed("status 429", "slow down");
  tally.failed("status 429", "again");
  tally.failed("timeout", "too long");
  tally.unfinished();
  const LoadReport report = tally.report(1.0);
  EXPECT_EQ(report.failed, 3u);
  EXPECT_EQ(report.unfinished, 1u);
  EXPECT_EQ(report.completed, 0u);
  ASSERT_EQ(report.errors.size(), 2u);
  EXPECT_EQ(report.errors.at("status 429").count, 2u);
  EXPECT_EQ(report.errors.at("status 429").first, "slow down");
}

TEST(LoadTallyTest, ARunWithoutTimeHasNoRates) {
  LoadTally tally({});
  EXPECT_DOUBLE_EQ(tally.report(0.0).requests_per_s, 0.0);
}

}  // namespace
}  // namespace conclave::cli
