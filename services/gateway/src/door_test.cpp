// Who is let in, with a registry and a store that only keep what they are asked.
#include "door.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

#include "testing_exchange.hpp"

namespace conclave::gateway {
namespace {

using base::ErrorCode;
using gateway::testing::FakeExchange;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Door::WallTime kWall{std::chrono::milliseconds(1'700'000'000'000)};

class FakeStore final : public quota::Store {
 public:
  void take(const quota::Ask&, Then) override { ADD_FAILURE() << "the port does"; }
  void settle(const quota::Settlement& settlement) override { settled.push_back(settlement); }

  std::vector<quota::Settlement> settled;
};

class DoorTest : public ::testing::Test, public DoorPort {
 protected:
  std::shared_ptr<FakeExchange> enter(RequestId id, std::optional<wire::Sha256> key,
                                      const std::string& model = "demo") {
    auto client = std::make_shared<FakeExchange>();
    GenerationRequest request;
    request.model = model;
    request.prompts.resize(1);
    request.prompts[0].max_tokens = 100;
    door_.enter({.id = id,
                 .call = ApiCall(client, Route::kChat, "req-1", now_, metrics_),
                 .request = std::move(request),
                 .answer_id = "chatcmpl-1",
                 .key = key,
                 .ticket = *admission_->enter(1)},
                now_, kWall);
    return client;
  }

  void answer(const wire::Sha256& secret, wire::KeyAnswer answer) {
    keys_.keep(secret, std::move(answer), now_);
    door_.heard(secret, {}, now_, kWall);
  }
  void registry_away(const wire::Sha256& secret) {
    door_.heard(secret, base::fail(ErrorCode::kUnavailable, "away"), now_, kWall);
  }
  void count(RequestId id, quota::Refusal refusal = quota::Refusal::kNone) {
    door_.counted(
        id,
        {.refusal = refusal, .now_ms = 1000, .window_ms = 500, .requests = 1, .day = 7, .month = 8},
        now_);
  }
  static wire::KeyAnswer valid(wire::TenantQuota quota = {}) {
    wire::KeyAnswer answer;
    answer.valid = true;
    answer.subject = {"acme", "key-1", wire::AccessRole::kInference};
    answer.quota = quota;
    return answer;
  }
  static std::string error_code(const FakeExchange& client) {
    return std::string(boost::json::parse(client.answer->body).at("error").at("code").as_string());
  }
  [[nodiscard]] std::vector<RequestId> passed_ids() const {
    std::vector<RequestId> ids;
    for (const Submission& submission : passed_) ids.push_back(submission.id);
    return ids;
  }
  void require_key() {
    options_.require_key = true;
    std::destroy_at(&door_);
    std::construct_at(&door_, options_, keys_, *this, metrics_);
  }

  const wire::Sha256 secret_ = secret_sum("sk-1");
  Door::TimePoint now_{seconds(1000)};
  telemetry::Metrics registry_;
  GatewayMetrics metrics_{registry_};
  const std::shared_ptr<Admission> admission_ = Admission::create(8);
  const std::shared_ptr<FakeStore> store_ = std::make_shared<FakeStore>();
  KeyBook keys_;
  std::vector<wire::Sha256> asked_;
  std::vector<std::pair<RequestId, quota::Ask>> taken_;
  std::list<Submission> passed_;
  std::vector<RequestId> gone_;
  DoorOptions options_{.require_key = false, .leases = "gw/1", .store = store_};
  Door door_{options_, keys_, *this, metrics_};

 private:
  void ask_key(const wire::Sha256& secret) override { asked_.push_back(secret); }
  void take(RequestId request, const quota::Ask& ask) override {
    taken_.emplace_back(request, ask);
  }
  void pass(Submission submission) override { passed_.push_back(std::move(submission)); }
  void client_gone(RequestId request) override { gone_.push_back(request); }
};

TEST_F(DoorTest, AsksOnceForAKeyThatSeveralShow) {
  enter(RequestId{1}, secret_);
  enter(RequestId{2}, secret_);
  EXPECT_THAT(asked_, ElementsAre(secret_));
  EXPECT_THAT(passed_, IsEmpty());

  answer(secret_, valid());
  enter(RequestId{3}, secret_);

  EXPECT_THAT(passed_ids(), ElementsAre(RequestId{1}, RequestId{2}, RequestId{3}));
  EXPECT_THAT(asked_, SizeIs(1));
  EXPECT_THAT(taken_, IsEmpty());  // it has no limits
}

TEST_F(DoorTest, AnAgedAnswerCountsWhileItIsAskedForAgain) {
  keys_.keep(secret_, valid(), now_);
  now_ += seconds(30);

  enter(RequestId{1}, secret_);
  enter(RequestId{2}, secret_);

  EXPECT_THAT(passed_, SizeIs(2));
  EXPECT_THAT(asked_, SizeIs(1));
}

TEST_F(DoorTest, ADoubtedAnswerIsWaitedForUnlessNobodyAnswers) {
  require_key();
  keys_.keep(secret_, valid(), now_);
  keys_.doubt();
  enter(RequestId{1}, secret_);
  EXPECT_THAT(passed_, IsEmpty());

  registry_away(secret_);
  EXPECT_THAT(passed_, SizeIs(1));
  enter(RequestId{2}, secret_);  // nobody waits in vain again
  EXPECT_THAT(passed_, SizeIs(2));
  EXPECT_THAT(asked_, SizeIs(2));

  registry_away(secret_);
  now_ += Door::kBelieve;
  enter(RequestId{3}, secret_);
  EXPECT_THAT(passed_, SizeIs(2));
  wire::KeyAnswer revoked;
  revoked.reason = "revoked";
  const auto client = enter(RequestId{4}, secret_);
  answer(secret_, revoked);
  EXPECT_THAT(passed_, SizeIs(2));
  EXPECT_EQ(client->answer->status, 401u);
  EXPECT_EQ(error_code(*client), "invalid_api_key");
}

TEST_F(DoorTest, WithoutARegistryNewKeysCountForNobody) {
  enter(RequestId{1}, secret_);
  registry_away(secret_);
  EXPECT_THAT(passed_, SizeIs(1));

  require_key();
  const auto client = enter(RequestId{2}, secret_);
  registry_away(secret_);
  EXPECT_THAT(passed_, SizeIs(1));
  EXPECT_EQ(client->answer->status, 503u);
}

TEST_F(DoorTest, AKeyOpensItsModelsOnly) {
  wire::KeyAnswer key = valid();
  key.models = {"demo", "other:2"};
  keys_.keep(secret_, key, now_);

  for (const char* model : {"demo", "demo:3", "demo@canary", "other:2"}) {
    enter(RequestId{passed_.size() + 1}, secret_, model);
  }
  EXPECT_THAT(passed_, SizeIs(4));

  for (const char* model : {"other", "other:1", "demonic", ""}) {
    const auto client = enter(RequestId{9}, secret_, model);
    EXPECT_EQ(client->answer->status, 403u) << model;
    EXPECT_EQ(error_code(*client), "model_not_allowed");
  }
  EXPECT_THAT(passed_, SizeIs(4));
}

TEST_F(DoorTest, CountsARequestBeforeItComesIn) {
  wire::TenantQuota quota{.requests_per_minute = 5, .day = 7, .day_tokens = 70, .month_tokens = 71};
  keys_.keep(secret_, valid(quota), now_);
  enter(RequestId{1}, secret_);
  ASSERT_THAT(taken_, SizeIs(1));
  const quota::Ask& ask = taken_[0].second;
  EXPECT_EQ(ask.tenant, "acme");
  EXPECT_EQ(ask.lease, "gw/1/1");
  EXPECT_EQ(ask.limits, quota::Limits{.requests_per_minute = 5});
  EXPECT_EQ(ask.reported.day_tokens, 70u);
  EXPECT_EQ(ask.tokens, 100u);
  EXPECT_THAT(passed_, IsEmpty());

  count(RequestId{1});

  ASSERT_THAT(passed_, SizeIs(1));
  EXPECT_THAT(store_->settled, IsEmpty());
  passed_.clear();  // ends without a token
  ASSERT_THAT(store_->settled, SizeIs(1));
  EXPECT_EQ(store_->settled[0].lease, "gw/1/1");
  EXPECT_EQ(store_->settled[0].tokens, -100);
  EXPECT_EQ(store_->settled[0].window_ms, 500);
}

TEST_F(DoorTest, SaysWhyAQuotaRefuses) {
  keys_.keep(secret_, valid({.requests_per_minute = 1}), now_);
  const auto client = enter(RequestId{1}, secret_);

  count(RequestId{1}, quota::Refusal::kRequestsPerMinute);

  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->status, 429u);
  EXPECT_EQ(error_code(*client), "rate_limit_exceeded");
  EXPECT_EQ(http::find_header(client->answer->headers, "x-ratelimit-limit-requests"), "1");
  EXPECT_EQ(http::find_header(client->answer->headers, "Retry-After"), "60");
  EXPECT_THAT(passed_, IsEmpty());
  EXPECT_THAT(store_->settled, IsEmpty());
  EXPECT_EQ(admission_->open(), 0u);
  EXPECT_THAT(registry_.expose(), ::testing::HasSubstr("conclave_gateway_quota_refused_total{limit="
                                                       "\"requests_per_minute\"} 1"));
}

TEST_F(DoorTest, AClientThatLeavesTakesNothingWithIt) {
  enter(RequestId{1}, secret_);
  door_.client_gone(RequestId{1});
  answer(secret_, valid({.requests_per_minute = 5}));
  EXPECT_THAT(taken_, IsEmpty());

  enter(RequestId{2}, secret_);
  door_.client_gone(RequestId{2});
  door_.client_gone(RequestId{2});
  count(RequestId{2});

  EXPECT_THAT(passed_, IsEmpty());
  EXPECT_THAT(store_->settled, SizeIs(1));
  EXPECT_EQ(admission_->open(), 0u);
  EXPECT_THAT(gone_, IsEmpty());
  door_.client_gone(RequestId{3});  // has come in
  EXPECT_THAT(gone_, ElementsAre(RequestId{3}));
}

}  // namespace
}  // namespace conclave::gateway
