// Requests: where they go, what clients are told, what is counted.
#include <gmock/gmock.h>

#include <set>

#include "testing_core.hpp"

namespace conclave::gateway {
namespace {

using namespace gateway::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class SettledStore final : public quota::Store {
 public:
  void take(const quota::Ask&, Then) override {}
  void settle(const quota::Settlement& settlement) override { tokens.push_back(settlement.tokens); }

  std::vector<std::int64_t> tokens;  // beyond those that were asked for
};

TEST_F(GatewayCoreTest, SettlesWhatARequestHasUsed) {
  const auto store = std::make_shared<SettledStore>();
  submit_counted(store);
  core_.accepted(sent_stream(0), {.prompt_tokens = 7});
  say(sent_stream(0), {token(1, "a"), token(2, "b")});
  EXPECT_THAT(store->tokens, IsEmpty());

  say(sent_stream(0), {end()});

  EXPECT_THAT(store->tokens, ElementsAre(7 + 2 - 100));
}

TEST_F(GatewayCoreTest, SettlesWhatNoRouterTook) {
  const auto store = std::make_shared<SettledStore>();
  core_.link_changed(kA, false, now_);
  core_.link_changed(kB, false, now_);

  submit_counted(store);

  EXPECT_THAT(store->tokens, ElementsAre(-100));
}

TEST_F(GatewayCoreTest, SendsARequestAndAnswersIt) {
  const auto client = submit(request(false));

  ASSERT_THAT(routers_.sent, SizeIs(1));
  const wire::Generate& sent = routers_.sent[0].request;
  EXPECT_EQ(sent.gateway, "gw");
  EXPECT_EQ(sent.request_id, "req-1");
  EXPECT_EQ(sent.text, "prompt 0");
  EXPECT_EQ(sent.trace.flags, 1);
  EXPECT_EQ(admission_->open(), 1u);

  core_.accepted(sent.stream, {5});
  say(sent.stream, {token(1, "a")});
  EXPECT_FALSE(client->answer);
  say(sent.stream, {token(2, "b"), end()});

  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->status, 200u);
  EXPECT_EQ(client->answer->header("x-request-id"), "req-1");
  const auto body = boost::json::parse(client->answer->body);
  EXPECT_EQ(body.at("id"), "cmpl-1");
  EXPECT_EQ(body.at("created"), 1700000000);
  EXPECT_EQ(body.at("system_fingerprint"), "fp_aaaaaaaaaaaa");
  EXPECT_EQ(body.at("choices").at(0).at("text"), "ab");
  EXPECT_EQ(body.at("usage").at("total_tokens"), 7);
  EXPECT_EQ(core_.open_requests(), 0u);
  EXPECT_EQ(admission_->open(), 0u);
  EXPECT_THAT(routers_.cancelled, IsEmpty());
}

TEST_F(GatewayCoreTest, HeadersSayThatExpertsTookThePlaceOfOthers) {
  TokenEvent degraded = token(1, "a");
  degraded.degraded = 2;

  const auto whole = submit(request(false));
  say(sent_stream(0), {degraded, end()});
  EXPECT_EQ(whole->answer->header("x-conclave-degraded"), "next-best");
  EXPECT_EQ(boost::json::parse(whole->answer->body).at("usage").at("conclave_degraded"), 2);

  const auto stream = submit(request(true), RequestId{2});
  say(sent_stream(1), {degraded});
  EXPECT_EQ(stream->answer->header("x-conclave-degraded"), "next-best");
  say(sent_stream(1), {end()});

  const auto exact = submit(request(false), RequestId{3});
  say(sent_stream(2), {token(1, "a"), end()});
  EXPECT_EQ(exact->answer->header("x-conclave-degraded"), "");
  EXPECT_EQ(metric("conclave_gateway_degraded_requests_total{policy=\"next-best\"}"), "2");
}

TEST_F(GatewayCoreTest, MissingExpertsAreAFailureOfTheirOwn) {
  const auto client = submit(request(false));
  say(sent_stream(0),
      {failure(ErrorCode::kUnavailable, "experts are missing: expert (1, 2) has no ready worker")});
  EXPECT_EQ(client->answer->status, 503u);
  EXPECT_EQ(error_code(*client), "experts_unavailable");
  EXPECT_EQ(client->answer->header("x-conclave-degraded"), "fail");
  EXPECT_EQ(client->answer->header("retry-after"), "1");
  EXPECT_EQ(metric("conclave_gateway_degraded_requests_total{policy=\"fail\"}"), "1");
}

TEST_F(GatewayCoreTest, StreamsWithOneWriteAMessage) {
  const auto client = submit(request(true, 1, 2));
  const std::uint64_t stream = sent_stream(0);

  EXPECT_FALSE(client->answer);  // a refusal may still get its status
  say(stream, {token(1, "a", 0), token(2, "b", 1)});
  EXPECT_EQ(client->answer->content_type, "text/event-stream; charset=utf-8");
  EXPECT_EQ(client->writes, 1);
  say(stream, {token(3, "")});  // nothing to tell
  EXPECT_EQ(client->writes, 1);
  say(stream, {end(FinishReason::kStop, 0), end(FinishReason::kLength, 1)});
  EXPECT_EQ(client->writes, 2);
  EXPECT_THAT(client->body, ::testing::EndsWith("data: [DONE]\n\n"));
  EXPECT_TRUE(client->ended);
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, StreamsOfOneRequestInOneMessageAreOneWrite) {
  const auto client = submit(request(true, 2));
  wire::TokenEvents events;
  events.streams.push_back({.stream = sent_stream(0), .tokens = {token(1, "a")}});
  events.streams.push_back({.stream = sent_stream(1), .tokens = {token(2, "b")}});

  core_.events(events, now_);

  EXPECT_EQ(client->writes, 1);
  EXPECT_THAT(client->body, HasSubstr(R"("index":0,"text":"a")"));
  EXPECT_THAT(client->body, HasSubstr(R"("index":1,"text":"b")"));
}

TEST_F(GatewayCoreTest, SpreadsPromptsOverRouters) {
  submit(request(false, 4));
  std::vector<RouterId> to;
  for (const auto& sent : routers_.sent) to.push_back(sent.router);
  EXPECT_THAT(to, ::testing::UnorderedElementsAre(kA, kA, kB, kB));
  std::set<std::uint64_t> streams;
  for (const auto& sent : routers_.sent) streams.insert(sent.request.stream);
  EXPECT_THAT(streams, SizeIs(4));
}

TEST_F(GatewayCoreTest, SeveralPromptsMakeOneAnswer) {
  const auto client = submit(request(false, 2, 2));
  for (const std::size_t prompt : {1u, 0u}) {
    core_.accepted(sent_stream(prompt), {3});
    say(sent_stream(prompt),
        {token(1, "p" + std::to_string(prompt)), end(), end(FinishReason::kStop, 1)});
  }
  ASSERT_TRUE(client->answer);
  const auto body = boost::json::parse(client->answer->body);
  ASSERT_EQ(body.at("choices").as_array().size(), 4u);
  EXPECT_EQ(body.at("choices").at(2).at("text"), "p1");
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), 6);
}

// --- models and readiness

TEST_F(GatewayCoreTest, RefusesModelsThatAreNotServed) {
  GenerationRequest other = request(false);
  other.model = "other";
  const auto client = submit(std::move(other));
  EXPECT_EQ(client->answer->status, 404u);
  EXPECT_EQ(error_code(*client), "model_not_found");
  EXPECT_EQ(admission_->open(), 0u);
}

TEST_F(GatewayCoreTest, IsReadyOnceARouterServesTheModel) {
  GatewayStatus status;
  FakeRouters routers;
  GatewayCore core({"gw", seconds(60), [] { return std::int64_t{5}; }}, routers, metrics_, status,
                   telemetry::Logger());
  EXPECT_FALSE(status.ready());

  wire::Fleet empty;
  empty.reason = "no model is deployed";
  core.fleet(empty);
  EXPECT_EQ(status.ready().error().message, "no model is deployed");
  EXPECT_THAT(status.models(), ::testing::IsEmpty());

  core.fleet(fleet_of({router("a")}));
  EXPECT_EQ(status.ready().error().message, "no connection to a");
  EXPECT_THAT(status.models(), ::testing::ElementsAre(ServedModel{"demo", "fp_aaaaaaaaaaaa", 5}));

  core.link_changed(kA, true, now_);
  EXPECT_TRUE(status.ready());
  core.link_changed(kA, false, now_);
  EXPECT_FALSE(status.ready());
}

TEST_F(GatewayCoreTest, ASchedulerThatStartedAnewTakesNothingAway) {
  core_.fleet(wire::Fleet{});
  EXPECT_TRUE(status_.ready());
  submit(request(false));
  EXPECT_THAT(routers_.sent, SizeIs(1));
}

TEST_F(GatewayCoreTest, WithoutARouterTheClientIsToldToComeBack) {
  core_.link_changed(kA, false, now_);
  core_.link_changed(kB, false, now_);
  const auto client = submit(request(false));
  EXPECT_EQ(client->answer->status, 503u);
  EXPECT_EQ(client->answer->header("Retry-After"), "1");
  EXPECT_THAT(client->answer->body, HasSubstr("no connection to a"));
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, AnAddressThatIsNoneIsNoRouter) {
  wire::NodeStatus bad = router("c");
  bad.report.address = "bad";
  core_.fleet(fleet_of({router("a"), router("b"), bad}));
  EXPECT_THAT(routers_.connected, ElementsAre("tcp://a", "tcp://b"));
  EXPECT_TRUE(status_.ready());
}

TEST_F(GatewayCoreTest, RoutesOtherRequestsByModel) {
  std::string model;
  EXPECT_TRUE(core_.route(model));
  EXPECT_EQ(model, "demo");
  std::string other = "other";
  EXPECT_EQ(core_.route(other).error().status, 404u);
}

// --- what routers refuse

TEST_F(GatewayCoreTest, ARoutersRefusalIsTheClientsError) {
  struct Case {
    base::Error error;
    unsigned status;
    std::string code;
  };
  std::uint64_t id = 1;
  for (const Case& each : std::vector<Case>{
           {{ErrorCode::kInvalidArgument, "token 9 is outside the vocabulary"},
            400,
            "invalid_value"},
           {{ErrorCode::kInvalidArgument, "9 tokens; the context of the model is 8"},
            400,
            "context_length_exceeded"},
           {{ErrorCode::kFailedPrecondition, "no chat template"}, 400, "failed_precondition"},
           {{ErrorCode::kNotFound, "another model"}, 404, "model_not_found"},
           {{ErrorCode::kDeadlineExceeded, "too late"}, 504, "deadline_exceeded"},
           {{ErrorCode::kCorruptData, "a logit is infinite"}, 502, "corrupt_data"},
           {{ErrorCode::kUnimplemented, "no such thing"}, 501, "unimplemented"},
           {{ErrorCode::kInternal, "a bug"}, 500, "internal_error"},
       }) {
    const auto client = submit(request(true), RequestId{id++});
    core_.refused(routers_.sent.back().request.stream, each.error, now_);
    ASSERT_TRUE(client->answer) << each.code;
    EXPECT_EQ(client->answer->status, each.status);
    EXPECT_EQ(error_code(*client), each.code);
    EXPECT_THAT(client->answer->body, HasSubstr(each.error.message));
  }
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, AFullRouterIsLeftForAnother) {
  const auto client = submit(request(false));
  const RouterId first = routers_.sent[0].router;

  core_.refused(sent_stream(0), {ErrorCode::kOverloaded, "the queue is full"}, now_);

  ASSERT_THAT(routers_.sent, SizeIs(2));
  EXPECT_NE(routers_.sent[1].router, first);
  EXPECT_NE(sent_stream(1), sent_stream(0));
  EXPECT_EQ(metric("conclave_gateway_streams_retried_total"), "1");
  say(sent_stream(1), {token(1, "a"), end()});
  EXPECT_EQ(client->answer->status, 200u);
}

TEST_F(GatewayCoreTest, WhenAllAreFullTheClientWaits) {
  const auto client = submit(request(false));
  core_.refused(sent_stream(0), {ErrorCode::kOverloaded, "the queue is full"}, now_);
  core_.refused(sent_stream(1), {ErrorCode::kOverloaded, "the queue is full"}, now_);
  EXPECT_EQ(client->answer->status, 429u);
  EXPECT_EQ(client->answer->header("Retry-After"), "1");
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, OneRefusedPromptEndsTheWholeRequest) {
  const auto client = submit(request(false, 3));
  core_.refused(sent_stream(1), {ErrorCode::kInvalidArgument, "no"}, now_);
  EXPECT_EQ(client->answer->status, 400u);
  EXPECT_THAT(routers_.cancelled, ::testing::UnorderedElementsAre(sent_stream(0), sent_stream(2)));
  EXPECT_EQ(core_.open_requests(), 0u);
  EXPECT_EQ(admission_->open(), 0u);
}

TEST_F(GatewayCoreTest, PromptsThatBeginAlikeGoToOneRouter) {
  const std::string beginning(8 * kPrefixBlockTokens * kBytesPerToken, 'x');
  std::vector<RouterId> to;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    GenerationRequest asked = request(false);
    asked.prompts[0].text = beginning + std::to_string(i);
    submit(std::move(asked), RequestId{i});
    to.push_back(routers_.sent.back().router);
  }
  EXPECT_THAT(to, ::testing::Each(to.front()));

  core_.link_changed(to.front(), false, now_);  // and its cache
  core_.link_changed(to.front(), true, now_);
  for (std::size_t i = 3; i < 6; ++i) EXPECT_NE(routers_.sent.at(i).router, to.front());
}

TEST_F(GatewayCoreTest, EventsOfStreamsThatAreOverAreCounted) {
  const auto client = submit(request(false));
  say(sent_stream(0), {token(1, "a"), end()});
  say(sent_stream(0), {token(2, "b")});
  say(12345, {token(2, "b")});
  EXPECT_EQ(metric("conclave_gateway_stale_events_total"), "2");
  EXPECT_THAT(client->answer->body, Not(HasSubstr("ab")));
}

// --- clients that go, and time

TEST_F(GatewayCoreTest, AClientThatLeftIsCancelledAtTheRouters) {
  submit(request(true, 2));
  say(sent_stream(0), {token(1, "a"), end()});

  core_.client_gone(RequestId{1}, now_);

  EXPECT_THAT(routers_.cancelled, ElementsAre(sent_stream(1)));  // the other one is over
  EXPECT_EQ(core_.open_requests(), 0u);
  EXPECT_EQ(admission_->open(), 0u);
  core_.client_gone(RequestId{1}, now_);  // and is not there twice
  EXPECT_EQ(metric("conclave_gateway_clients_lost_total"), "1");
}

TEST_F(GatewayCoreTest, AClientThatIsTooSlowIsCancelled) {
  const auto client = submit(request(true));
  say(sent_stream(0), {token(1, "a")});
  client->takes = false;
  say(sent_stream(0), {token(2, "b")});
  EXPECT_THAT(routers_.cancelled, ElementsAre(sent_stream(0)));
  EXPECT_EQ(core_.open_requests(), 0u);
  EXPECT_EQ(metric("conclave_gateway_clients_lost_total"), "1");
}

TEST_F(GatewayCoreTest, ARequestThatHadItsTimeEnds) {
  const auto waiting = submit(request(false), RequestId{1});
  const auto streaming = submit(request(true), RequestId{2});
  say(sent_stream(1), {token(1, "a")});

  core_.tick(kStart + seconds(60) - milliseconds(1));
  EXPECT_EQ(core_.open_requests(), 2u);
  core_.tick(kStart + seconds(60));

  EXPECT_EQ(waiting->answer->status, 504u);
  EXPECT_THAT(streaming->body, HasSubstr("deadline_exceeded"));
  EXPECT_TRUE(streaming->ended);
  EXPECT_THAT(routers_.cancelled, SizeIs(2));
  EXPECT_EQ(core_.open_requests(), 0u);
}

// --- metrics

TEST_F(GatewayCoreTest, KeepsTheSeriesThatDashboardsQuery) {
  const std::string label = R"({model_name="demo"})";
  submit(request(false));
  EXPECT_EQ(metric("vllm:num_requests_waiting" + label), "1");
  core_.accepted(sent_stream(0), {5});
  now_ += milliseconds(30);
  say(sent_stream(0), {token(1, "a")});
  EXPECT_EQ(metric("vllm:num_requests_waiting" + label), "0");
  EXPECT_EQ(metric("vllm:num_requests_running" + label), "1");
  now_ += milliseconds(60);
  say(sent_stream(0), {token(2, "b"), end(FinishReason::kLength)});

  EXPECT_EQ(metric("vllm:num_requests_running" + label), "0");
  EXPECT_EQ(metric("vllm:prompt_tokens_total" + label), "5");
  EXPECT_EQ(metric("vllm:generation_tokens_total" + label), "2");
  EXPECT_EQ(metric(R"(vllm:request_success_total{finished_reason="length",model_name="demo"})"),
            "1");
  EXPECT_EQ(metric("vllm:time_to_first_token_seconds_sum" + label), "0.03");
  EXPECT_EQ(metric("vllm:inter_token_latency_seconds_sum" + label), "0.06");
  EXPECT_EQ(metric("vllm:e2e_request_latency_seconds_sum" + label), "0.09");
  EXPECT_EQ(metric("vllm:request_prompt_tokens_sum" + label), "5");
  EXPECT_EQ(metric("vllm:request_generation_tokens_sum" + label), "2");
  EXPECT_EQ(metric(R"(conclave_gateway_http_requests_total{path="/v1/completions",status="200"})"),
            "1");
}

TEST_F(GatewayCoreTest, WhatARouterTookInVainIsCountedAsAborted) {
  const std::string aborted =
      R"(vllm:request_success_total{finished_reason="abort",model_name="demo"})";
  submit(request(false, 1, 2), RequestId{1});
  core_.refused(sent_stream(0), {ErrorCode::kInvalidArgument, "no"}, now_);
  EXPECT_EQ(metric(aborted), "0");

  submit(request(false, 1, 2), RequestId{2});
  core_.accepted(sent_stream(1), {5});
  core_.client_gone(RequestId{2}, now_);
  EXPECT_EQ(metric(aborted), "2");
  EXPECT_EQ(metric(R"(vllm:num_requests_waiting{model_name="demo"})"), "0");
  EXPECT_EQ(metric(R"(conclave_gateway_http_requests_total{path="/v1/completions",status="499"})"),
            "1");
}

}  // namespace
}  // namespace conclave::gateway
