// Streams whose router is lost or drains, and requests that come between two routers.
#include <gmock/gmock.h>

#include "testing_core.hpp"

namespace conclave::gateway {
namespace {

using namespace gateway::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

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
