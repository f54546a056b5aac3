// Links within a process, without a socket: how they come and go. What actors see over them is
// tested with the other transports, in node_test.cpp.
#include <gmock/gmock.h>

#include <caf/all.hpp>
#include <memory>
#include <vector>

#include "testing_process.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using testing::TestContext;
using testing::TestNode;
using wire::NodeRole;

constexpr const char* kAddress = "direct://registry";
const NodeIdentity kGateway{"gateway-0", NodeRole::kGateway, 7};

NodeIdentity registry(std::uint64_t start = 1) {
  return {"registry-0", NodeRole::kRegistry, start};
}

/// Nodes of one process, without keys.
class DirectLinksTest : public ::testing::Test {
 protected:
  std::unique_ptr<TestNode> listening(std::uint64_t start = 1) {
    auto node = std::make_unique<TestNode>(context_, registry(start));
    EXPECT_EQ((*node)->listen(kAddress).value(), kAddress);
    return node;
  }
  double links() { return context_.value("conclave_fabric_links", {}, true); }

  TestContext context_;
};

TEST_F(DirectLinksTest, WaitsForAServerThatIsNotThereYet) {
  TestNode gateway(context_, kGateway);
  const LinkId link = gateway->connect(kAddress, NodeRole::kRegistry).value();
  const auto late = listening();
  const LinkEvent up = gateway.wait_up();
  EXPECT_EQ(up.link, link);
  EXPECT_EQ(up.peer, registry());
  EXPECT_EQ(late->wait_up().peer, kGateway);
  EXPECT_EQ(gateway->find("registry-0"), link);
}

TEST_F(DirectLinksTest, ConnectsAnewToAServerThatStartedAnew) {
  TestNode gateway(context_, kGateway);
  const LinkId link = gateway->connect(kAddress, NodeRole::kRegistry).value();
  for (std::uint64_t start = 1; start <= 3; ++start) {
    const auto server = listening(start);
    const LinkEvent up = gateway.wait_up();
    EXPECT_EQ(up.link, link);
    EXPECT_EQ(up.peer.incarnation, start);
    (*server)->stop(std::chrono::milliseconds{0});
    EXPECT_EQ(gateway.wait_down().reason, "goodbye");
  }
  EXPECT_EQ(links(), 0);
}

TEST_F(DirectLinksTest, SaysGoodbyeWhenItDisconnects) {
  const auto server = listening();
  TestNode gateway(context_, kGateway);
  const LinkId link = gateway->connect(kAddress, NodeRole::kRegistry).value();
  gateway.wait_up();
  const LinkEvent up = server->wait_up();
  gateway->disconnect(link);
  EXPECT_EQ(gateway.wait_down().reason, "closed here");
  const LinkEvent down = server->wait_down();
  EXPECT_EQ(down.link, up.link);
  EXPECT_EQ(down.reason, "goodbye");
  EXPECT_EQ(links(), 0);
}

TEST_F(DirectLinksTest, ServerTakesALinkDownAndTheClientComesAnew) {
  const auto server = listening();
  TestNode gateway(context_, kGateway);
  const LinkId link = gateway->connect(kAddress, NodeRole::kRegistry).value();
  gateway.wait_up();
  (*server)->disconnect(server->wait_up().link);
  EXPECT_EQ(gateway.wait_down().reason, "goodbye");
  EXPECT_EQ(gateway.wait_up().link, link);
}

TEST_F(DirectLinksTest, ReplacesTheLinkOfAnEarlierStartAndRefusesAnEvenEarlierOne) {
  const auto server = listening();
  TestNode first(context_, kGateway);
  (void)first->connect(kAddress, NodeRole::kRegistry);
  server->wait_up();
  TestNode second(context_, {kGateway.name, kGateway.role, 8});
  (void)second->connect(kAddress, NodeRole::kRegistry);
  EXPECT_EQ(server->wait_down().reason, "started anew");
  EXPECT_EQ(server->wait_up().peer.incarnation, 8u);
  // The first one knocks again when its link has gone.
  EXPECT_GE(context_.wait_refused(Refusal::kStale), 1);
}

TEST_F(DirectLinksTest, ShutsOutRolesThatHaveNoBusinessHere) {
  const auto server = listening();
  TestNode other(context_, {"registry-9", NodeRole::kRegistry, 1});
  (void)other->connect(kAddress, NodeRole::kRegistry);
  EXPECT_GE(context_.wait_refused(Refusal::kWrongRole), 1);
  EXPECT_EQ((*server)->find("registry-9"), 0u);
}

TEST_F(DirectLinksTest, LeavesAServerOfAnotherRole) {
  const auto server = listening();
  TestNode gateway(context_, kGateway);
  (void)gateway->connect(kAddress, NodeRole::kScheduler);
  EXPECT_EQ(server->wait_up().peer, kGateway);
  EXPECT_EQ(server->wait_down().reason, "goodbye");
  EXPECT_GE(context_.wait_refused(Refusal::kWrongRole), 1);
  EXPECT_EQ(gateway->find("registry-0"), 0u);
}

TEST_F(DirectLinksTest, RefusesAddressesThatAreInUseOrNone) {
  const auto server = listening();
  TestNode other(context_, {"registry-1", NodeRole::kRegistry, 1});
  EXPECT_EQ(other->listen(kAddress).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(other->listen("direct://").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(other->connect("direct://", NodeRole::kRegistry).error().code,
            ErrorCode::kInvalidArgument);
  other->stop(std::chrono::milliseconds{0});
  EXPECT_EQ(other->listen("direct://late").error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(DirectLinksTest, AnswersEveryRequestOnceWhileLinksBreak) {
  constexpr int kAskers = 4;
  constexpr int kRequests = 2000;
  const auto serving = [this](std::uint64_t start) {
    auto node = std::make_unique<TestNode>(context_, registry(start));
    const auto echo = node->system().spawn([](caf::event_based_actor*) {
      return caf::behavior{[](const wire::ResolveModel&) { return wire::ModelRecord{}; }};
    });
    (*node)->publish("echo", echo, Run::kScheduled);
    EXPECT_TRUE((*node)->listen(kAddress));
    return node;
  };
  auto server = serving(1);
  TestNode gateway(context_, kGateway);
  const LinkId link = gateway->connect(kAddress, NodeRole::kRegistry).value();
  gateway.wait_up();

  struct State {
    int asked = 0;
    int answered = 0;
  };
  testing::Events<int> done;
  const auto asker = [&](caf::stateful_actor<State>* self) -> caf::behavior {
    const auto count = [self, &done] {
      if (++self->state.answered == kRequests) done.add(self->state.answered);
    };
    return {[self, count, link, &gateway](const wire::Nudge&) {
      for (int i = 0; i < 20 && self->state.asked < kRequests; ++i, ++self->state.asked) {
        self->request(gateway->remote(link, "echo"), caf::infinite, wire::ResolveModel{"x"})
            .then([count](const wire::ModelRecord&) { count(); },
                  [count](const caf::error&) { count(); });
      }
      if (self->state.asked < kRequests) self->send(self, wire::Nudge{});
    }};
  };
  std::vector<caf::actor> askers;
  for (int i = 0; i < kAskers; ++i) {
    askers.push_back(gateway.system().spawn(asker));
    caf::anon_send(askers.back(), wire::Nudge{});
  }
  for (std::uint64_t start = 2; start < 5; ++start) {
    server.reset();
    gateway.wait_down();
    server = serving(start);
    EXPECT_EQ(gateway.wait_up().peer.incarnation, start);
  }
  for (int i = 0; i < kAskers; ++i) EXPECT_EQ(done.wait().value_or(0), kRequests);
  EXPECT_EQ(context_.value("conclave_fabric_requests_in_flight", {}, true), 0);
  for (const auto& actor : askers) caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
}

}  // namespace
}  // namespace conclave::fabric
