#include "door.hpp"

#include <algorithm>
#include <utility>

#include "admin_call.hpp"
#include "conclave/quota/grant.hpp"
#include "quota_answer.hpp"

namespace conclave::gateway {
namespace {

// A key's models are names; a request may name a version, or an alias, of one.
bool may_ask(const wire::KeyAnswer& key, const std::string& model) {
  const std::string name = model.substr(0, model.find_first_of(":@"));
  return key.models.empty() || std::ranges::any_of(key.models, [&](const std::string& allowed) {
           return allowed == model || allowed == name;
         });
}

}  // namespace

std::optional<wire::KeyAnswer> Door::believed(const wire::Sha256& secret, TimePoint now,
                                              WallTime wall) const {
  if (now < believe_until_) return keys_.usable(secret, now, wall);
  return keys_.certain(secret, now, wall);
}

void Door::ask(const wire::Sha256& secret) {
  if (asked_.try_emplace(secret).second) port_.ask_key(secret);
}

void Door::enter(Submission submission, TimePoint now, WallTime wall) {
  if (!submission.key) {
    port_.pass(std::move(submission));
    return;
  }
  const wire::Sha256 secret = *submission.key;
  const auto fresh = keys_.fresh(secret, now, wall);
  const auto key = fresh ? fresh : believed(secret, now, wall);
  if (key) {
    decide(std::move(submission), key, now);
    if (!fresh) ask(secret);  // for those who come next
    return;
  }
  const RequestId id = submission.id;
  waiting_.emplace(id, secret);
  const auto [asked, is_first] = asked_.try_emplace(secret);
  asked->second.push_back(std::move(submission));
  if (is_first) port_.ask_key(secret);
}

void Door::heard(const wire::Sha256& secret, const base::Status& answer, TimePoint now,
                 WallTime wall) {
  believe_until_ = answer ? TimePoint() : now + kBelieve;
  const auto asked = asked_.find(secret);
  if (asked == asked_.end()) return;
  std::list<Submission> submissions = std::move(asked->second);
  asked_.erase(asked);
  const auto key = answer ? keys_.fresh(secret, now, wall) : keys_.usable(secret, now, wall);
  for (Submission& submission : submissions) {
    waiting_.erase(submission.id);
    decide(std::move(submission), key, now);
  }
}

std::optional<ApiError> Door::refusal(const GenerationRequest& request,
                                      const std::optional<wire::KeyAnswer>& key) const {
  if (!key) {
    if (!options_.require_key) return std::nullopt;
    return unavailable("The registry cannot be asked whose API key this is");
  }
  if (!key->valid) return options_.require_key ? refusal_of(*key) : std::nullopt;
  if (may_ask(*key, request.model)) return std::nullopt;
  return ApiError{403, "This API key may not ask this model", "model", "model_not_allowed"};
}

void Door::decide(Submission submission, const std::optional<wire::KeyAnswer>& key, TimePoint now) {
  if (const auto refused = refusal(submission.request, key)) {
    submission.call.fail(*refused);
    return;
  }
  const quota::Limits limits = key && key->valid ? limits_of(key->quota) : quota::Limits{};
  if (limits == quota::Limits{}) {
    port_.pass(std::move(submission));
    return;
  }
  const RequestId id = submission.id;
  const quota::Ask ask{key->subject.tenant,
                       options_.leases + "/" + std::to_string(static_cast<std::uint64_t>(id)),
                       limits,
                       {key->quota.day, key->quota.day_tokens, key->quota.month_tokens},
                       tokens_at_most(submission.request)};
  counting_.emplace(id, Counting{std::move(submission), ask, now});
  port_.take(id, ask);
}

void Door::counted(RequestId request, const quota::Counts& counts, TimePoint now) {
  const auto found = counting_.find(request);
  if (found == counting_.end()) return;
  Counting counting = std::move(found->second);
  counting_.erase(found);
  metrics_.quota_counted(counts.refusal, now - counting.since);
  std::optional<quota::Grant> grant;
  if (counts.refusal == quota::Refusal::kNone) {
    grant.emplace(options_.store, counting.ask, counts);
  }
  if (counting.is_gone) return;  // with its grant
  Submission& submission = counting.submission;
  const quota::Ask& ask = counting.ask;
  submission.call.set_quota_headers(quota_headers(ask.limits, counts, ask.tokens));
  if (!grant) {
    submission.call.fail(quota_error(ask.limits, counts, ask.tokens));
    return;
  }
  submission.grant.emplace(std::move(*grant));
  port_.pass(std::move(submission));
}

void Door::client_gone(RequestId request) {
  if (const auto counting = counting_.find(request); counting != counting_.end()) {
    if (!std::exchange(counting->second.is_gone, true)) counting->second.submission.call.abandon();
    return;
  }
  const auto waiting = waiting_.find(request);
  if (waiting == waiting_.end()) {
    port_.client_gone(request);
    return;
  }
  std::list<Submission>& submissions = asked_.at(waiting->second);
  const auto found = std::ranges::find(submissions, request, &Submission::id);
  found->call.abandon();
  submissions.erase(found);
  waiting_.erase(waiting);
}

}  // namespace conclave::gateway
