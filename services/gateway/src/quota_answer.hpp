// What a client is told of its tenant's quota: headers as OpenAI's clients read them, and why a
// request is refused.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api_error.hpp"
#include "conclave/http/header.hpp"
#include "conclave/quota/quota.hpp"
#include "conclave/wire/ledger.hpp"
#include "openai_request.hpp"

namespace conclave::gateway {

quota::Limits limits_of(const wire::TenantQuota& quota);

/// Tokens that a request may need at most: of its prompts, about, and of all choices. Of a choice
/// that names no length kOpenChoiceTokens: its end is settled by what it was.
std::uint64_t tokens_at_most(const GenerationRequest& request);
inline constexpr std::uint64_t kOpenChoiceTokens = 256;

/// `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, of those limits a minute that there
/// are; of a refusal also `retry-after-ms`, or `x-should-retry: false` where waiting is for people.
std::vector<http::Header> quota_headers(const quota::Limits& limits, const quota::Counts& counts,
                                        std::uint64_t tokens);

/// 429, for a refusal: `rate_limit_exceeded`, or `insufficient_quota` for a day and a month.
ApiError quota_error(const quota::Limits& limits, const quota::Counts& counts,
                     std::uint64_t tokens);

/// "0s", "250ms", "17s", "1m0s", as OpenAI's API writes times.
std::string shown_time(std::int64_t milliseconds);

}  // namespace conclave::gateway
