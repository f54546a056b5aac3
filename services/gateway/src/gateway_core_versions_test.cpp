// Several versions behind one name: deployments and shadow traffic.
#include <gmock/gmock.h>

#include "testing_core.hpp"

namespace conclave::gateway {
namespace {

using namespace gateway::testing;
using ::testing::SizeIs;

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

}  // namespace
}  // namespace conclave::gateway
