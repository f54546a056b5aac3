#include "quota_answer.hpp"

#include <algorithm>
#include <limits>

#include "prefix_index.hpp"

namespace conclave::gateway {

using quota::Counts;
using quota::Limits;
using quota::Refusal;

namespace {

struct Told {
  const char* type;
  const char* what;  // of the limit
  std::uint64_t Limits::*limit;
  std::uint64_t Counts::*used;
};

// OpenAI's `type` is what ran out.
Told told_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNone:
    case Refusal::kConcurrentRequests:
      break;
    case Refusal::kRequestsPerMinute:
      return {"requests", "requests per minute (RPM)", &Limits::requests_per_minute,
              &Counts::requests};
    case Refusal::kTokensPerMinute:
      return {"tokens", "tokens per minute (TPM)", &Limits::tokens_per_minute, &Counts::tokens};
    case Refusal::kTokensPerDay:
      return {"insufficient_quota", "tokens per day", &Limits::tokens_per_day, &Counts::day_tokens};
    case Refusal::kTokensPerMonth:
      return {"insufficient_quota", "tokens per month", &Limits::tokens_per_month,
              &Counts::month_tokens};
  }
  return {"requests", "requests at once", nullptr, nullptr};
}

bool is_for_long(Refusal refusal) {
  return refusal == Refusal::kTokensPerDay || refusal == Refusal::kTokensPerMonth;
}

// Asked for more than the limit is at all: no wait helps.
bool is_too_large(const Limits& limits, const Counts& counts, std::uint64_t tokens) {
  return counts.refusal == Refusal::kTokensPerMinute && tokens > limits.tokens_per_minute;
}

void add(std::vector<http::Header>& headers, const std::string& of, std::uint64_t limit,
         std::uint64_t used, std::int64_t reset_ms) {
  if (limit == 0) return;
  headers.push_back({"x-ratelimit-limit-" + of, std::to_string(limit)});
  headers.push_back({"x-ratelimit-remaining-" + of, std::to_string(limit - std::min(limit, used))});
  headers.push_back({"x-ratelimit-reset-" + of, shown_time(reset_ms)});
}

}  // namespace

Limits limits_of(const wire::TenantQuota& quota) {
  return {quota.requests_per_minute, quota.tokens_per_minute, quota.tokens_per_day,
          quota.tokens_per_month, quota.concurrent_requests};
}

std::uint64_t tokens_at_most(const GenerationRequest& request) {
  std::uint64_t tokens = 0;
  for (const wire::Generate& prompt : request.prompts) {
    tokens += estimated_tokens(prompt);
    tokens += prompt.choices * std::uint64_t{prompt.max_tokens.value_or(kOpenChoiceTokens)};
  }
  return tokens;
}

std::string shown_time(std::int64_t milliseconds) {
  if (milliseconds <= 0) return "0s";
  if (milliseconds < 1000) return std::to_string(milliseconds) + "ms";
  const std::int64_t seconds = (milliseconds + 999) / 1000;
  if (seconds < 60) return std::to_string(seconds) + "s";
  return std::to_string(seconds / 60) + "m" + std::to_string(seconds % 60) + "s";
}

std::vector<http::Header> quota_headers(const Limits& limits, const Counts& counts,
                                        std::uint64_t tokens) {
  std::vector<http::Header> headers;
  const std::int64_t left_ms = counts.window_ms + quota::kWindowMs - counts.now_ms;
  add(headers, "requests", limits.requests_per_minute, counts.requests,
      counts.requests == 0 ? 0 : left_ms);
  add(headers, "tokens", limits.tokens_per_minute, counts.tokens, counts.tokens == 0 ? 0 : left_ms);
  if (counts.refusal == Refusal::kNone) return headers;
  if (is_for_long(counts.refusal) || is_too_large(limits, counts, tokens)) {
    headers.push_back({"x-should-retry", "false"});
  } else {
    headers.push_back({"retry-after-ms", std::to_string(quota::retry_after_ms(counts))});
  }
  return headers;
}

ApiError quota_error(const Limits& limits, const Counts& counts, std::uint64_t tokens) {
  const Told told = told_of(counts.refusal);
  const std::uint64_t limit =
      told.limit != nullptr ? limits.*told.limit : limits.concurrent_requests;
  const std::uint64_t used = told.used != nullptr ? counts.*told.used : counts.open;
  const std::int64_t wait_ms = quota::retry_after_ms(counts);
  const bool is_large = is_too_large(limits, counts, tokens);
  const bool is_of_tokens = counts.refusal != Refusal::kRequestsPerMinute &&
                            counts.refusal != Refusal::kConcurrentRequests;
  std::string message = is_large                      ? "The request is too large for the "
                        : is_for_long(counts.refusal) ? "The quota is used up: "
                                                      : "Rate limit reached: ";
  message += std::string(told.what) + ": limit " + std::to_string(limit) + ", used " +
             std::to_string(used);
  if (is_of_tokens) message += ", asked for " + std::to_string(tokens);
  if (!is_large) message += ". Try again in " + shown_time(wait_ms);
  ApiError error{429,
                 message + ".",
                 {},
                 is_for_long(counts.refusal) ? "insufficient_quota" : "rate_limit_exceeded"};
  constexpr std::int64_t kMost = std::numeric_limits<unsigned>::max();
  error.retry_after_s =
      is_large ? 0
               : static_cast<unsigned>(std::clamp((wait_ms + 999) / 1000, std::int64_t{1}, kMost));
  error.type = told.type;
  return error;
}

}  // namespace conclave::gateway
