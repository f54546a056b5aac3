// What is let in, and when what was refused may come again.
#include "quota_book.hpp"

#include <gtest/gtest.h>

namespace conclave::quota {
namespace {

// 2025-10-09 08:53:20 UTC
constexpr std::int64_t kStart = 1'760'000'000'000;
constexpr std::int32_t kToday = 20'370;

Ask ask(const Limits& limits, std::uint64_t tokens = 10, const std::string& lease = "a") {
  return {.tenant = "acme", .lease = lease, .limits = limits, .reported = {}, .tokens = tokens};
}

TEST(QuotaBookTest, AMinuteBeginsWithItsFirstRequest) {
  QuotaBook book;
  const Ask one = ask({.requests_per_minute = 2});
  EXPECT_EQ(book.take(one, kStart).requests, 1u);
  EXPECT_EQ(book.take(one, kStart + 59'000).requests, 2u);

  const Counts refused = book.take(one, kStart + 59'400);

  EXPECT_EQ(refused.refusal, Refusal::kRequestsPerMinute);
  EXPECT_EQ(retry_after_ms(refused), 600);
  const Counts next = book.take(one, kStart + 60'000);
  EXPECT_EQ(next.refusal, Refusal::kNone);
  EXPECT_EQ(next.requests, 1u);
  EXPECT_EQ(next.window_ms, kStart + 60'000);
}

TEST(QuotaBookTest, ARefusedRequestBeginsNoMinute) {
  QuotaBook book;
  const Limits limits{.tokens_per_minute = 100};
  EXPECT_EQ(book.take(ask(limits, 101), kStart).refusal, Refusal::kTokensPerMinute);

  EXPECT_EQ(book.take(ask(limits, 100), kStart + 1000).window_ms, kStart + 1000);
}

TEST(QuotaBookTest, DaysAndMonthsAreThoseOfUtc) {
  QuotaBook book;
  const Limits limits{.tokens_per_day = 20, .tokens_per_month = 30};
  EXPECT_EQ(book.take(ask(limits, 20), kStart).day, kToday);

  const Counts day = book.take(ask(limits), kStart);
  EXPECT_EQ(day.refusal, Refusal::kTokensPerDay);
  EXPECT_EQ(retry_after_ms(day), (kToday + 1) * kDayMs - kStart);

  const std::int64_t tomorrow = (kToday + 1) * kDayMs;
  EXPECT_EQ(book.take(ask(limits, 10), tomorrow).refusal, Refusal::kNone);
  const Counts month = book.take(ask(limits, 1), tomorrow);
  EXPECT_EQ(month.refusal, Refusal::kTokensPerMonth);
  // The first of November is day 20393.
  EXPECT_EQ(retry_after_ms(month), 20'393 * kDayMs - tomorrow);
  EXPECT_EQ(book.take(ask(limits, 1), 20'393 * kDayMs).refusal, Refusal::kNone);
}

TEST(QuotaBookTest, SettlesOnlyWindowsThatAreNotOver) {
  QuotaBook book;
  const Limits limits{.tokens_per_minute = 100, .tokens_per_day = 1000};
  const Counts before = book.take(ask(limits, 80), kStart);
  (void)book.take(ask(limits, 50), kStart + kWindowMs);

  book.settle({"acme", "a", before.window_ms, before.day, before.month, -60});

  const Counts after = book.take(ask(limits, 0), kStart + kWindowMs);
  EXPECT_EQ(after.tokens, 50u);
  EXPECT_EQ(after.day_tokens, 70u);
  EXPECT_EQ(after.month_tokens, 70u);
}

TEST(QuotaBookTest, NeverCountsBelowZero) {
  QuotaBook book;
  const Counts counts = book.take(ask({.tokens_per_minute = 100}, 5), kStart);

  book.settle({"acme", "a", counts.window_ms, counts.day, counts.month, -500});
  book.settle({"nobody", "a", counts.window_ms, counts.day, counts.month, -500});

  EXPECT_EQ(book.take(ask({.tokens_per_minute = 100}, 7), kStart).tokens, 7u);
  EXPECT_EQ(book.tenants(), 1u);
}

TEST(QuotaBookTest, GoesOnFromWhatAnotherOneCounted) {
  QuotaBook book;
  const Ask one = ask({.requests_per_minute = 10, .concurrent_requests = 3});
  book.adopt(one, {.now_ms = kStart,
                   .window_ms = kStart - 1000,
                   .requests = 9,
                   .day = kToday,
                   .month = month_of(kToday),
                   .open = 2});

  EXPECT_EQ(book.take(ask(one.limits, 1, "b"), kStart).requests, 10u);
  EXPECT_EQ(book.take(ask(one.limits, 1, "c"), kStart).refusal, Refusal::kRequestsPerMinute);
  ASSERT_EQ(book.leases().size(), 1u);
  EXPECT_EQ(book.leases()[0].names, (std::vector<std::string>{"a", "b"}));
}

TEST(QuotaBookTest, AClockThatIsSetBackBeginsAnew) {
  QuotaBook book;
  const Ask one = ask({.requests_per_minute = 1});
  (void)book.take(one, kStart);

  EXPECT_EQ(book.take(one, kStart - 1).refusal, Refusal::kNone);
}

TEST(QuotaBookTest, ForgetsTenantsThatWereQuiet) {
  QuotaBook book;
  Ask busy = ask({.requests_per_minute = 1, .concurrent_requests = 1});
  busy.tenant = "busy";
  (void)book.take(busy, kStart);
  for (std::size_t i = 0; i < QuotaBook::kTenantsMax + 5; ++i) {
    Ask other = ask({.requests_per_minute = 1});
    other.tenant = "t" + std::to_string(i);
    (void)book.take(other, kStart);
  }

  EXPECT_EQ(book.tenants(), QuotaBook::kTenantsMax);
  EXPECT_EQ(book.take(busy, kStart).refusal, Refusal::kRequestsPerMinute);  // it is open
}

TEST(QuotaBookTest, KnowsTheMonthOfADay) {
  EXPECT_EQ(month_of(0), 1970 * 12);
  EXPECT_EQ(month_of(30), 1970 * 12);
  EXPECT_EQ(month_of(31), 1970 * 12 + 1);
  EXPECT_EQ(month_of(-1), 1969 * 12 + 11);
  EXPECT_EQ(month_of(19'782), 2024 * 12 + 1);  // 29 February
  EXPECT_EQ(month_of(19'783), 2024 * 12 + 2);
  EXPECT_EQ(month_of(INT64_MAX), 0);
}

}  // namespace
}  // namespace conclave::quota
