// Decisions about requests, with routers and clients that only keep what they are told.
#include "gateway_core.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <set>

#include "testing_exchange.hpp"

namespace conclave::gateway {
namespace {

using base::ErrorCode;
using gateway::testing::FakeExchange;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;
using wire::FinishReason;
using wire::TokenEvent;
using TimePoint = GatewayCore::TimePoint;

constexpr RouterId kA{1};
constexpr RouterId kB{2};
constexpr TimePoint kStart{seconds(1000)};

class FakeRouters final : public RouterPort {
 public:
  struct Sent {
    RouterId router{};
    wire::Generate request;
  };

  std::optional<RouterId> connect(const std::string& address) override {
    if (address.find("bad") != std::string::npos) return std::nullopt;
    connected.push_back(address);
    return RouterId{connected.size()};
  }
  void disconnect(RouterId router) override { disconnected.push_back(router); }
  void generate(RouterId router, const wire::Generate& request) override {
    sent.push_back({router, request});
  }
  void cancel(RouterId, const wire::CancelStream& cancel) override {
    EXPECT_EQ(cancel.gateway, "gw");
    cancelled.push_back(cancel.stream);
  }

  std::vector<std::string> connected;
  std::vector<RouterId> disconnected;
  std::vector<Sent> sent;
  std::vector<std::uint64_t> cancelled;
};

wire::NodeStatus router(const std::string& name) {
  wire::NodeStatus status;
  status.report.node = name;
  status.report.role = wire::NodeRole::kRouter;
  status.report.state = wire::NodeState::kReady;
  status.report.address = "tcp://" + name;
  status.report.models = {{.model = {"demo", 1, {}, {}}}};
  return status;
}

wire::Fleet fleet_of(std::vector<wire::NodeStatus> nodes) {
  wire::Fleet fleet;
  fleet.models = {{.model = {"demo", 1, "/m.gguf", std::string(64, 'a')}}};
  fleet.nodes = std::move(nodes);
  return fleet;
}

TokenEvent token(std::int32_t id, std::string text, std::uint32_t choice = 0) {
  return {.choice = choice, .token = id, .text = std::move(text)};
}
TokenEvent end(FinishReason finish = FinishReason::kStop, std::uint32_t choice = 0) {
  return {.choice = choice, .finish = finish};
}
TokenEvent failure(ErrorCode code, std::string message) {
  return {.finish = FinishReason::kError, .error = {code, std::move(message)}};
}

/// A core whose fleet has routers a and b, both up.
class GatewayCoreTest : public ::testing::Test {
 protected:
  GatewayCoreTest() {
    core_.fleet(fleet_of({router("a"), router("b")}));
    core_.link_changed(kA, true, now_);
    core_.link_changed(kB, true, now_);
  }

  /// What a client asks for: `prompts` prompts of `n` choices.
  static GenerationRequest request(bool stream, std::size_t prompts = 1, std::uint32_t n = 1) {
    GenerationRequest request;
    request.model = "demo";
    request.format = {.stream = stream, .choices = n};
    for (std::size_t i = 0; i < prompts; ++i) {
      wire::Generate generate;
      generate.model = "demo";
      generate.text = "prompt " + std::to_string(i);
      generate.choices = n;
      request.prompts.push_back(std::move(generate));
    }
    return request;
  }

  std::shared_ptr<FakeExchange> submit(GenerationRequest request, RequestId id = RequestId{1}) {
    auto client = std::make_shared<FakeExchange>();
    const std::size_t prompts = request.prompts.size();
    core_.submit({.id = id,
                  .call = ApiCall(client, Route::kCompletions, "req-1", now_, metrics_),
                  .request = std::move(request),
                  .trace = {.flags = 1},
                  .answer_id = "cmpl-1",
                  .ticket = *admission_->enter(prompts)},
                 now_);
    return client;
  }

  void say(std::uint64_t stream, std::vector<TokenEvent> tokens) {
    wire::TokenEvents events;
    events.streams.push_back({.stream = stream, .tokens = std::move(tokens)});
    core_.events(events, now_);
  }

  [[nodiscard]] std::uint64_t sent_stream(std::size_t index) const {
    return routers_.sent.at(index).request.stream;
  }

  /// With a place among what its tenant may use.
  std::shared_ptr<FakeExchange> submit_counted(std::shared_ptr<quota::Store> store) {
    auto client = std::make_shared<FakeExchange>();
    core_.submit({.id = RequestId{1},
                  .call = ApiCall(client, Route::kCompletions, "req-1", now_, metrics_),
                  .request = request(false),
                  .trace = {},
                  .answer_id = "cmpl-1",
                  .ticket = *admission_->enter(1),
                  .grant = quota::Grant(std::move(store), {.tenant = "acme", .tokens = 100}, {})},
                 now_);
    return client;
  }

  static std::string error_code(const FakeExchange& client) {
    return std::string(boost::json::parse(client.answer->body).at("error").at("code").as_string());
  }

  /// The value of a series in the exposition, as text; empty if it is not there.
  std::string metric(const std::string& series) const {
    const std::string text = "\n" + registry_.expose();
    const std::size_t at = text.find("\n" + series + " ");
    if (at == std::string::npos) return {};
    const std::size_t value = at + series.size() + 2;
    return text.substr(value, text.find('\n', value) - value);
  }

  TimePoint now_ = kStart;
  telemetry::Metrics registry_;
  GatewayMetrics metrics_{registry_};
  GatewayStatus status_;
  FakeRouters routers_;
  const std::shared_ptr<Admission> admission_ = Admission::create(8);
  GatewayCore core_{{"gw", seconds(60), [] { return std::int64_t{1700000000}; }},
                    routers_,
                    metrics_,
                    status_,
                    telemetry::Logger()};
};

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

// --- routers that go

TEST_F(GatewayCoreTest, ALostRouterIsReplacedBeforeTheFirstEvent) {
  const auto client = submit(request(true));
  const RouterId first = routers_.sent[0].router;
  core_.accepted(sent_stream(0), {5});

  core_.link_changed(first, false, now_);

  ASSERT_THAT(routers_.sent, SizeIs(2));
  EXPECT_NE(routers_.sent[1].router, first);
  EXPECT_EQ(routers_.sent[1].request.text, "prompt 0");
  EXPECT_EQ(routers_.sent[1].request.sampling, routers_.sent[0].request.sampling);
  core_.refused(sent_stream(0), {ErrorCode::kUnavailable, "link down"}, now_);  // the old one's
  core_.accepted(sent_stream(1), {5});
  say(sent_stream(1), {token(1, "a"), end()});
  EXPECT_EQ(client->answer->status, 200u);
  EXPECT_TRUE(client->ended);
}

TEST_F(GatewayCoreTest, AStreamGoesOnWhereItsRouterWasLost) {
  const auto client = submit(request(true));
  const RouterId first = routers_.sent[0].router;
  core_.accepted(sent_stream(0), {.prompt_tokens = 5, .max_tokens = 16, .version = 1});
  say(sent_stream(0), {token(1, "a"), token(2, "")});
  const std::string before = client->body;
  now_ += milliseconds(10);

  core_.link_changed(first, false, now_);

  ASSERT_THAT(routers_.sent, SizeIs(2));
  const wire::Generate& again = routers_.sent[1].request;
  EXPECT_NE(routers_.sent[1].router, first);
  EXPECT_EQ(again.text, "prompt 0");
  EXPECT_EQ(again.sampling, routers_.sent[0].request.sampling);
  EXPECT_EQ(again.max_tokens, 16u) << "as the first router understood it";
  EXPECT_EQ(again.version, 1u);
  EXPECT_EQ(again.started_unix_s, routers_.sent[0].request.started_unix_s);
  EXPECT_THAT(again.resume, ElementsAre(wire::ResumedChoice{{1, 2}, false}));
  EXPECT_EQ(client->body, before) << "a pause is all";
  EXPECT_FALSE(client->ended);

  say(sent_stream(0), {token(9, "late")});  // what the lost one still says
  core_.accepted(sent_stream(1), {.prompt_tokens = 5, .max_tokens = 16, .version = 1});
  now_ += milliseconds(20);
  say(sent_stream(1), {token(3, "bc"), end()});

  EXPECT_THAT(client->body, HasSubstr(R"("text":"bc")"));
  EXPECT_THAT(client->body, Not(HasSubstr("late")));
  EXPECT_THAT(client->body, Not(HasSubstr("error")));
  EXPECT_THAT(client->body, ::testing::EndsWith("data: [DONE]\n\n"));
  EXPECT_EQ(core_.open_requests(), 0u);
  EXPECT_EQ(metric("conclave_gateway_streams_resumed_total"), "1");
  EXPECT_EQ(metric("conclave_gateway_resume_seconds_sum"), "0.02");
  EXPECT_EQ(metric("conclave_gateway_streams_given_up_total"), "0");
}

TEST_F(GatewayCoreTest, AWholeAnswerIsOneOverTwoRouters) {
  const auto client = submit(request(false));
  core_.accepted(sent_stream(0), {.prompt_tokens = 5});
  TokenEvent first = token(1, "a");
  first.cached_tokens = 4;
  say(sent_stream(0), {first});
  core_.link_changed(routers_.sent[0].router, false, now_);
  core_.accepted(sent_stream(1), {.prompt_tokens = 5});
  TokenEvent second = token(2, "b");
  second.cached_tokens = 5;  // there
  say(sent_stream(1), {second, end()});

  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->status, 200u);
  const auto body = boost::json::parse(client->answer->body);
  EXPECT_EQ(body.at("choices").at(0).at("text"), "ab");
  const auto& usage = body.at("usage");
  EXPECT_EQ(usage.at("prompt_tokens"), 5);
  EXPECT_EQ(usage.at("completion_tokens"), 2);
  EXPECT_EQ(usage.at("prompt_tokens_details").at("cached_tokens"), 4);
}

TEST_F(GatewayCoreTest, OnlyChoicesThatHaveNotFinishedGoOn) {
  const auto client = submit(request(true, 1, 3));
  say(sent_stream(0), {token(1, "a", 0), token(2, "b", 1), end(FinishReason::kStop, 1)});
  core_.link_changed(routers_.sent[0].router, false, now_);

  EXPECT_THAT(routers_.sent.at(1).request.resume,
              ElementsAre(wire::ResumedChoice{{1}, false}, wire::ResumedChoice{{}, true},
                          wire::ResumedChoice{}));
  say(sent_stream(1), {end(FinishReason::kStop, 0), end(FinishReason::kStop, 2)});
  EXPECT_TRUE(client->ended);
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, AnEchoThatWasCutGoesOnWhereItWas) {
  GenerationRequest asked = request(false);
  asked.format.echo = true;
  asked.format.return_token_ids = true;
  asked.prompts[0].echo = true;
  const auto client = submit(std::move(asked));
  core_.accepted(sent_stream(0), {.prompt_tokens = 3});
  wire::TokenEvents events;
  events.streams.push_back({.stream = sent_stream(0), .prompt = {token(1, "x"), token(2, "y")}});
  core_.events(events, now_);
  core_.link_changed(routers_.sent[0].router, false, now_);

  EXPECT_TRUE(routers_.sent.at(1).request.echo);
  EXPECT_THAT(routers_.sent[1].request.resume, IsEmpty());
  events.streams.clear();
  events.streams.push_back({.stream = sent_stream(1),
                            .prompt = {token(1, "x"), token(2, "y"), token(3, "z")},
                            .tokens = {token(4, "w")}});
  core_.events(events, now_);
  core_.link_changed(kA, true, now_);
  core_.link_changed(kB, true, now_);
  core_.link_changed(routers_.sent[1].router, false, now_);
  EXPECT_FALSE(routers_.sent.at(2).request.echo);
  say(sent_stream(2), {end()});

  ASSERT_TRUE(client->answer);
  EXPECT_THAT(client->answer->body, HasSubstr(R"("text":"prompt 0w")"));
  EXPECT_THAT(client->answer->body, HasSubstr(R"("prompt_token_ids":[1,2,3])"));
}

TEST_F(GatewayCoreTest, AStreamWaitsForARouterToComeBack) {
  core_.link_changed(kB, false, now_);
  const auto client = submit(request(true));
  say(sent_stream(0), {token(1, "a")});
  core_.link_changed(kA, false, now_);
  now_ += seconds(1);
  core_.tick(now_);
  EXPECT_EQ(metric("conclave_gateway_streams_without_router"), "1");
  EXPECT_THAT(routers_.sent, SizeIs(1));
  EXPECT_FALSE(client->ended);

  core_.link_changed(kA, true, now_);

  ASSERT_THAT(routers_.sent, SizeIs(2));
  // It has not loaded its model yet.
  core_.refused(sent_stream(1), {ErrorCode::kUnavailable, "no model is loaded"}, now_);
  EXPECT_EQ(core_.open_requests(), 1u);
  core_.tick(now_);
  ASSERT_THAT(routers_.sent, SizeIs(3));
  EXPECT_THAT(routers_.sent[2].request.resume, SizeIs(1));
  say(sent_stream(2), {token(2, "b"), end()});
  EXPECT_THAT(client->body, ::testing::EndsWith("data: [DONE]\n\n"));
  core_.tick(now_);
  EXPECT_EQ(metric("conclave_gateway_streams_without_router"), "0");
}

TEST_F(GatewayCoreTest, NobodyWaitsForARouterForEver) {
  core_.link_changed(kB, false, now_);
  const auto streaming = submit(request(true), RequestId{1});
  const auto whole = submit(request(false, 2), RequestId{2});
  for (std::size_t i = 0; i < 3; ++i) say(sent_stream(i), {token(1, "a")});
  core_.link_changed(kA, false, now_);
  core_.tick(now_ + seconds(30) - milliseconds(1));
  EXPECT_EQ(core_.open_requests(), 2u);

  core_.tick(now_ + seconds(30));

  EXPECT_THAT(streaming->body, HasSubstr("upstream_lost"));
  EXPECT_THAT(streaming->body, Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(streaming->ended);
  EXPECT_EQ(whole->answer->status, 502u);
  EXPECT_EQ(error_code(*whole), "upstream_lost");
  EXPECT_EQ(core_.open_requests(), 0u);
  EXPECT_EQ(admission_->open(), 0u);
  EXPECT_EQ(metric("conclave_gateway_streams_given_up_total"), "3");
}

TEST_F(GatewayCoreTest, APromptThatTakesRoutersDownIsGivenUp) {
  const auto client = submit(request(true));
  say(sent_stream(0), {token(1, "a")});
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_THAT(routers_.sent, SizeIs(i + 1));
    const RouterId router = routers_.sent[i].router;
    core_.link_changed(router, false, now_);
    core_.link_changed(router, true, now_);
  }
  EXPECT_THAT(routers_.sent, SizeIs(3));
  EXPECT_THAT(client->body, HasSubstr("upstream_lost"));
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, AStreamMayLoseManyRoutersWhileItGetsOn) {
  const auto client = submit(request(true));
  for (std::size_t i = 0; i < 10; ++i) {
    say(sent_stream(i), {token(static_cast<std::int32_t>(i), "x")});
    const RouterId router = routers_.sent[i].router;
    core_.link_changed(router, false, now_);
    core_.link_changed(router, true, now_);
    ASSERT_THAT(routers_.sent, SizeIs(i + 2));
    EXPECT_THAT(routers_.sent.back().request.resume.at(0).tokens, SizeIs(i + 1));
  }
  say(sent_stream(10), {end()});
  EXPECT_THAT(client->body, ::testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(GatewayCoreTest, ALostRouterTakesOnlyItsOwnStreams) {
  submit(request(true), RequestId{1});
  const auto other = submit(request(true), RequestId{2});
  say(sent_stream(0), {token(1, "a")});
  say(sent_stream(1), {token(1, "b")});
  ASSERT_NE(routers_.sent[0].router, routers_.sent[1].router);

  core_.link_changed(routers_.sent[0].router, false, now_);

  ASSERT_THAT(routers_.sent, SizeIs(3));
  EXPECT_EQ(routers_.sent[2].router, routers_.sent[1].router);
  say(sent_stream(1), {end()});
  EXPECT_TRUE(other->ended);
  EXPECT_THAT(other->body, Not(HasSubstr("error")));
}

TEST_F(GatewayCoreTest, WhatAnEngineCannotGoOnWithGoesOnElsewhere) {
  const auto client = submit(request(true, 1, 2));
  say(sent_stream(0), {token(1, "a", 0), token(2, "b", 1)});
  say(sent_stream(0), {token(3, "c", 0), failure(ErrorCode::kUnavailable, "an expert is away"),
                       token(4, "not heard", 1)});

  EXPECT_THAT(routers_.cancelled, ElementsAre(sent_stream(0)));  // the other choice
  ASSERT_THAT(routers_.sent, SizeIs(2));
  EXPECT_NE(routers_.sent[1].router, routers_.sent[0].router);
  EXPECT_THAT(routers_.sent[1].request.resume,
              ElementsAre(wire::ResumedChoice{{1, 3}, false}, wire::ResumedChoice{{2}, false}));
  EXPECT_THAT(client->body, HasSubstr("\"text\":\"c\""));
  EXPECT_THAT(client->body, Not(HasSubstr("not heard")));
}

TEST_F(GatewayCoreTest, AnErrorThatEveryRouterHasComesAfterWhatWasSaid) {
  const auto client = submit(request(true));
  say(sent_stream(0), {token(1, "a")});
  say(sent_stream(0), {token(2, "b"), failure(ErrorCode::kCorruptData, "no number")});
  const std::size_t text = client->body.find("\"text\":\"b\"");
  const std::size_t error = client->body.find("no number");
  ASSERT_NE(error, std::string::npos);
  EXPECT_LT(text, error);
  EXPECT_TRUE(client->ended);
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, AnErrorOfAllEnginesHasItsStatus) {
  const auto client = submit(request(true));
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_THAT(routers_.sent, SizeIs(i + 1));
    say(sent_stream(i), {failure(ErrorCode::kUnavailable, "an expert is away")});
    core_.tick(now_);
  }
  EXPECT_EQ(client->answer->status, 503u);
  EXPECT_THAT(client->body, IsEmpty());
  EXPECT_EQ(core_.open_requests(), 0u);
}

TEST_F(GatewayCoreTest, ARouterThatCancelsByItselfIsLeft) {
  submit(request(false));
  say(sent_stream(0), {token(1, "a"), end(FinishReason::kCancelled)});
  EXPECT_THAT(routers_.sent, SizeIs(2));
}

TEST_F(GatewayCoreTest, AnotherVersionDoesNotGoOn) {
  const auto client = submit(request(true));
  core_.accepted(sent_stream(0), {.prompt_tokens = 5, .version = 1});
  say(sent_stream(0), {token(1, "a")});
  wire::NodeStatus a = router("a");
  wire::NodeStatus b = router("b");
  a.report.models[0].model.version = b.report.models[0].model.version = 2;
  wire::Fleet fleet = fleet_of({a, b});
  fleet.models[0].model.version = 2;
  core_.fleet(fleet);

  say(sent_stream(0), {failure(ErrorCode::kUnavailable, "the model was replaced")});
  EXPECT_THAT(routers_.sent, SizeIs(1));
  core_.tick(now_);

  EXPECT_THAT(client->body, HasSubstr("the model was replaced"));
  EXPECT_TRUE(client->ended);
}

TEST_F(GatewayCoreTest, ARouterThatDrainsHandsItsStreamsOn) {
  const auto client = submit(request(true));
  const RouterId first = routers_.sent[0].router;
  core_.accepted(sent_stream(0), {.prompt_tokens = 5});
  say(sent_stream(0), {token(1, "a")});
  wire::NodeStatus a = router("a");
  wire::NodeStatus b = router("b");
  (first == kA ? a : b).report.state = wire::NodeState::kDraining;

  core_.fleet(fleet_of({a, b}));

  EXPECT_THAT(routers_.cancelled, ElementsAre(sent_stream(0)));
  ASSERT_THAT(routers_.sent, SizeIs(2));
  EXPECT_NE(routers_.sent[1].router, first);
  EXPECT_THAT(routers_.sent[1].request.resume, ElementsAre(wire::ResumedChoice{{1}, false}));
  say(sent_stream(1), {token(2, "b"), end()});
  EXPECT_THAT(client->body, ::testing::EndsWith("data: [DONE]\n\n"));
  EXPECT_EQ(metric("conclave_gateway_streams_moved_total"), "1");
}

TEST_F(GatewayCoreTest, ARouterThatDrainsAloneFinishesItsStreams) {
  core_.link_changed(kB, false, now_);
  submit(request(true));
  core_.accepted(sent_stream(0), {.prompt_tokens = 5});
  wire::NodeStatus a = router("a");
  a.report.state = wire::NodeState::kDraining;
  core_.fleet(fleet_of({a, router("b")}));
  core_.tick(now_);
  EXPECT_THAT(routers_.sent, SizeIs(1));
  EXPECT_THAT(routers_.cancelled, IsEmpty());
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

// ---- several versions ----

// Routers a and b serve versions 1 and 2 of demo; `chat` is answered by this one, and shown the
// other.
class DeploymentsTest : public GatewayCoreTest {
 protected:
  DeploymentsTest() { serve(wire::NodeState::kReady, false); }

  // What version 1 is, on every router and in the fleet.
  void serve(wire::NodeState state, bool leaving) {
    wire::NodeStatus a = router("a");
    wire::NodeStatus b = router("b");
    for (wire::NodeStatus* node : {&a, &b}) {
      node->report.models[0].state = state;
      node->report.models.push_back({.model = {"demo", 2, {}, {}}});
    }
    wire::Fleet fleet = fleet_of({a, b});
    fleet.models[0].leaving = leaving;
    fleet.models.push_back({.model = {"demo", 2, "/n.gguf", std::string(64, 'b')}});
    core_.fleet(fleet);
  }
  void deploy(std::uint32_t version, std::uint32_t shadow = 0) {
    wire::Deployment chat;
    chat.name = "chat";
    chat.splits = {{"demo@some", {"demo", version, {}, std::string(64, 'b')}, 1}};
    chat.shadow = {"demo", shadow, {}, {}};
    chat.shadow_percent = shadow == 0 ? 0 : 100;
    core_.deployments({.revision = ++revision_, .deployments = {chat}});
  }
  static GenerationRequest to_chat(bool stream) {
    GenerationRequest asked = request(stream);
    asked.model = "chat";
    return asked;
  }

  std::uint64_t revision_ = 0;
};

TEST_F(DeploymentsTest, AnswersUnderTheNameThatWasAskedFor) {
  deploy(2);

  const auto client = submit(to_chat(false));

  ASSERT_THAT(routers_.sent, SizeIs(1));
  EXPECT_EQ(routers_.sent[0].request.model, "demo");
  EXPECT_EQ(routers_.sent[0].request.version, 2u);
  core_.accepted(sent_stream(0), {5});
  say(sent_stream(0), {token(1, "a"), end()});
  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->header("x-conclave-model-version"), "demo:2");
  const auto body = boost::json::parse(client->answer->body);
  EXPECT_EQ(body.at("model"), "chat");
  EXPECT_EQ(body.at("system_fingerprint"), "fp_bbbbbbbbbbbb");
  EXPECT_THAT(status_.models(), SizeIs(2));
}

TEST_F(DeploymentsTest, AStreamOfAVersionThatIsLeftGoesOnElsewhere) {
  const auto client = submit(request(true));
  EXPECT_EQ(routers_.sent[0].request.version, 1u);
  core_.accepted(sent_stream(0), {.prompt_tokens = 5, .max_tokens = 9, .version = 1});
  say(sent_stream(0), {token(1, "a")});

  serve(wire::NodeState::kDraining, true);
  submit(request(true), RequestId{2});
  EXPECT_EQ(routers_.sent[1].request.version, 2u) << "nothing begins with it";
  core_.link_changed(routers_.sent[0].router, false, now_);

  ASSERT_THAT(routers_.sent, SizeIs(::testing::Ge(3u)));
  const auto again =
      std::find_if(routers_.sent.begin() + 2, routers_.sent.end(),
                   [](const FakeRouters::Sent& sent) { return sent.request.version == 1; });
  ASSERT_NE(again, routers_.sent.end());
  EXPECT_THAT(again->request.resume, SizeIs(1));
  say(again->request.stream, {token(2, "b"), end()});
  EXPECT_TRUE(client->ended);
}

TEST_F(DeploymentsTest, AShadowIsShownToNobody) {
  deploy(1, 2);

  const auto client = submit(to_chat(false));

  ASSERT_THAT(routers_.sent, SizeIs(2));
  const wire::Generate& shadow = routers_.sent[1].request;
  EXPECT_EQ(routers_.sent[0].request.version, 1u);
  EXPECT_EQ(shadow.version, 2u);
  EXPECT_EQ(shadow.text, "prompt 0");
  EXPECT_GT(shadow.priority, 10);
  core_.accepted(shadow.stream, {5});
  say(shadow.stream, {token(7, "z"), end()});
  EXPECT_FALSE(client->answer);
  core_.accepted(sent_stream(0), {5});
  say(sent_stream(0), {token(1, "a"), end()});
  EXPECT_EQ(boost::json::parse(client->answer->body).at("choices").at(0).at("text"), "a");
  EXPECT_EQ(metric("conclave_gateway_stale_events_total"), "0");
  EXPECT_EQ(metric(R"(conclave_gateway_shadows_total{outcome="sent"})"), "1");
  EXPECT_EQ(metric(R"(vllm:generation_tokens_total{model_name="demo"})"), "1");

  // One that never ends is given up with its time.
  submit(to_chat(false), RequestId{2});
  now_ += seconds(61);
  core_.tick(now_);
  EXPECT_THAT(routers_.cancelled, ::testing::Contains(routers_.sent[3].request.stream));
}

// Two routers are replaced at once: the old ones drain, and the links to the new ones are not up.
TEST_F(GatewayCoreTest, ARequestBetweenTwoRoutersWaitsForTheNextOne) {
  core_.tick(now_);  // both could be chosen
  std::vector<wire::NodeStatus> nodes = {router("a"), router("b")};
  for (wire::NodeStatus& node : nodes) node.report.state = wire::NodeState::kDraining;
  nodes.push_back(router("c"));
  core_.fleet(fleet_of(nodes));

  const auto client = submit(request(false));
  EXPECT_FALSE(client->answer);
  now_ += milliseconds(500);
  core_.tick(now_);
  EXPECT_THAT(routers_.sent, IsEmpty());
  core_.link_changed(RouterId{3}, true, now_);

  ASSERT_THAT(routers_.sent, SizeIs(1));
  EXPECT_EQ(routers_.sent[0].router, RouterId{3});
  say(sent_stream(0), {token(1, "x"), end()});
  EXPECT_EQ(client->answer->status, 200u);
  EXPECT_EQ(metric("conclave_gateway_streams_resumed_total"), "0") << "nothing was lost";
}

TEST_F(GatewayCoreTest, ARequestThatARouterRefusesAsItDrainsWaitsForTheNextOne) {
  core_.tick(now_);
  const auto client = submit(request(false));
  core_.refused(sent_stream(0), {ErrorCode::kUnavailable, "draining"}, now_);
  core_.refused(sent_stream(1), {ErrorCode::kUnavailable, "draining"}, now_);
  EXPECT_FALSE(client->answer);

  now_ += milliseconds(250);
  core_.tick(now_);
  ASSERT_THAT(routers_.sent, SizeIs(3));
  say(sent_stream(2), {token(1, "x"), end()});
  EXPECT_EQ(client->answer->status, 200u);
}

TEST_F(GatewayCoreTest, AHeldRequestIsToldThatARouterIsFull) {
  core_.tick(now_);
  const auto client = submit(request(false));
  core_.refused(sent_stream(0), {ErrorCode::kUnavailable, "draining"}, now_);
  core_.refused(sent_stream(1), {ErrorCode::kUnavailable, "draining"}, now_);
  now_ += milliseconds(250);
  core_.tick(now_);

  core_.refused(sent_stream(2), {ErrorCode::kOverloaded, "full"}, now_);
  core_.refused(sent_stream(3), {ErrorCode::kOverloaded, "full"}, now_);
  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->status, 429u);
}

TEST_F(GatewayCoreTest, ARequestIsHeldNoLongerThanItsTimeByRoutersThatDrain) {
  core_.tick(now_);
  const auto client = submit(request(false));
  std::size_t sent = 0;
  for (int i = 0; i < 40 && !client->answer; ++i) {
    for (; sent < routers_.sent.size(); ++sent) {
      core_.refused(sent_stream(sent), {ErrorCode::kUnavailable, "draining"}, now_);
    }
    now_ += milliseconds(250);
    core_.tick(now_);
  }
  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->status, 503u);
}

TEST_F(GatewayCoreTest, ARequestIsHeldForATimeAndNotWhereThereIsNoRouterForGood) {
  core_.tick(now_);
  core_.fleet(fleet_of({}));
  core_.link_changed(kA, false, now_);
  core_.link_changed(kB, false, now_);
  const auto client = submit(request(false));
  EXPECT_FALSE(client->answer);

  now_ += seconds(4);
  core_.tick(now_);
  EXPECT_FALSE(client->answer);
  now_ += seconds(2);
  core_.tick(now_);
  ASSERT_TRUE(client->answer);
  EXPECT_EQ(client->answer->status, 503u);

  const auto late = submit(request(false), RequestId{2});
  ASSERT_TRUE(late->answer);
  EXPECT_EQ(late->answer->status, 503u);
  EXPECT_THAT(late->answer->body, HasSubstr("No router is ready"));
  EXPECT_EQ(core_.open_requests(), 0u);
}

}  // namespace
}  // namespace conclave::gateway
