#include "quota_answer.hpp"

#include <gmock/gmock.h>

namespace conclave::gateway {
namespace {

using quota::Counts;
using quota::Limits;
using quota::Refusal;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t kNow = 1'760'000'000'000;

Counts counts(Refusal refusal) {
  return {.refusal = refusal,
          .now_ms = kNow,
          .window_ms = kNow - 17'300,
          .requests = 3,
          .tokens = 90,
          .day = 20'370,
          .day_tokens = 990,
          .month = quota::month_of(20'370),
          .month_tokens = 5000,
          .open = 2};
}

TEST(QuotaAnswerTest, CountsWhatARequestMayNeedAtMost) {
  GenerationRequest request;
  request.prompts.resize(2);
  request.prompts[0].kind = wire::PromptKind::kTokens;
  request.prompts[0].tokens.resize(10);
  request.prompts[0].choices = 3;
  request.prompts[0].max_tokens = 100;
  request.prompts[1].kind = wire::PromptKind::kTokens;
  request.prompts[1].tokens.resize(5);

  EXPECT_EQ(tokens_at_most(request), 10u + 3 * 100 + 5 + kOpenChoiceTokens);
}

TEST(QuotaAnswerTest, TellsWhatIsLeftOfTheMinute) {
  const Limits limits{.requests_per_minute = 5, .tokens_per_minute = 100, .tokens_per_day = 1000};

  EXPECT_THAT(quota_headers(limits, counts(Refusal::kNone), 10),
              ElementsAre(http::Header{"x-ratelimit-limit-requests", "5"},
                          http::Header{"x-ratelimit-remaining-requests", "2"},
                          http::Header{"x-ratelimit-reset-requests", "43s"},
                          http::Header{"x-ratelimit-limit-tokens", "100"},
                          http::Header{"x-ratelimit-remaining-tokens", "10"},
                          http::Header{"x-ratelimit-reset-tokens", "43s"}));
  EXPECT_THAT(quota_headers({.concurrent_requests = 2}, counts(Refusal::kNone), 10), ElementsAre());
}

TEST(QuotaAnswerTest, TellsWhenToComeAgain) {
  const Limits limits{.requests_per_minute = 3};
  const ApiError error = quota_error(limits, counts(Refusal::kRequestsPerMinute), 10);

  EXPECT_EQ(error.status, 429u);
  EXPECT_EQ(error.code, "rate_limit_exceeded");
  EXPECT_EQ(error.type, "requests");
  EXPECT_EQ(error.retry_after_s, 43u);
  EXPECT_THAT(error.message, HasSubstr("(RPM): limit 3, used 3. Try again in 43s."));
  EXPECT_EQ(quota_headers(limits, counts(Refusal::kRequestsPerMinute), 10).back(),
            (http::Header{"retry-after-ms", "42700"}));
}

TEST(QuotaAnswerTest, TellsThatNoWaitHelps) {
  const Limits limits{.tokens_per_minute = 100};
  const ApiError error = quota_error(limits, counts(Refusal::kTokensPerMinute), 101);

  EXPECT_EQ(error.code, "rate_limit_exceeded");
  EXPECT_EQ(error.type, "tokens");
  EXPECT_EQ(error.retry_after_s, 0u);
  EXPECT_THAT(error.message, HasSubstr("too large"));
  EXPECT_EQ(quota_headers(limits, counts(Refusal::kTokensPerMinute), 101).back(),
            (http::Header{"x-should-retry", "false"}));
  EXPECT_EQ(quota_error(limits, counts(Refusal::kTokensPerMinute), 100).retry_after_s, 43u);
}

TEST(QuotaAnswerTest, TellsThatADayOrAMonthIsUsedUp) {
  const Limits limits{.tokens_per_day = 1000, .tokens_per_month = 5001};
  const ApiError day = quota_error(limits, counts(Refusal::kTokensPerDay), 20);
  EXPECT_EQ(day.code, "insufficient_quota");
  EXPECT_EQ(day.type, "insufficient_quota");
  EXPECT_EQ(day.retry_after_s, 20'371u * 86'400 - kNow / 1000);
  EXPECT_THAT(day.message, HasSubstr("tokens per day: limit 1000, used 990, asked for 20"));
  EXPECT_EQ(quota_headers(limits, counts(Refusal::kTokensPerDay), 20).back(),
            (http::Header{"x-should-retry", "false"}));

  const ApiError month = quota_error(limits, counts(Refusal::kTokensPerMonth), 20);
  EXPECT_EQ(month.code, "insufficient_quota");
  EXPECT_EQ(month.retry_after_s, 20'393u * 86'400 - kNow / 1000);
}

TEST(QuotaAnswerTest, TellsThatTooManyAreOpen) {
  const ApiError error =
      quota_error({.concurrent_requests = 2}, counts(Refusal::kConcurrentRequests), 10);

  EXPECT_EQ(error.code, "rate_limit_exceeded");
  EXPECT_EQ(error.retry_after_s, 1u);
  EXPECT_THAT(error.message, HasSubstr("requests at once: limit 2, used 2. Try"));
}

TEST(QuotaAnswerTest, WritesTimesAsOpenAiDoes) {
  EXPECT_EQ(shown_time(-5), "0s");
  EXPECT_EQ(shown_time(0), "0s");
  EXPECT_EQ(shown_time(250), "250ms");
  EXPECT_EQ(shown_time(1001), "2s");
  EXPECT_EQ(shown_time(60'000), "1m0s");
  EXPECT_EQ(shown_time(3'661'000), "61m1s");
}

}  // namespace
}  // namespace conclave::gateway
