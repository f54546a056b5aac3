// How links come, go and come again.
#include <gmock/gmock.h>

#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "conclave/wire/limits.hpp"
#include "context_internal.hpp"
#include "testing_node_links.hpp"

namespace conclave::fabric {
namespace {

using testing::kAnyPort;
using testing::kGateway;
using testing::NodeLinksTest;
using testing::quick_settings;
using testing::RawPeer;
using testing::TestContext;
using testing::TestNode;
using wire::FrameKind;
using wire::NodeRole;

// ---- coming, going, coming again ----

TEST_F(NodeLinksTest, WaitsForAServerThatIsNotThereYet) {
  std::string address;
  {
    TestNode first(context_, {"registry-1", NodeRole::kRegistry, 1});
    address = first->listen(kAnyPort).value();
  }
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway);
  const LinkId link = gateway->connect(address, NodeRole::kRegistry).value();
  TestNode second(context_, {"registry-1", NodeRole::kRegistry, 2});
  ASSERT_TRUE(second->listen(address));
  const LinkEvent up = gateway.wait_up();
  EXPECT_EQ(up.link, link);
  EXPECT_EQ(up.peer.incarnation, 2u);
}

TEST_F(NodeLinksTest, ConnectsToAServerByTheNameOfItsHost) {
  std::string address = address_;
  address.replace(address.find("127.0.0.1"), 9, "localhost");
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway);
  (void)gateway->connect("tcp://no-such-host.invalid:7", NodeRole::kRegistry);  // holds up nobody
  const LinkId link = gateway->connect(address, NodeRole::kRegistry).value();
  EXPECT_EQ(gateway.wait_up().link, link);
}

TEST_F(NodeLinksTest, WaitsForAServerOfThisProcessToo) {
  TestContext shared;
  TestNode gateway(shared, kGateway);
  const LinkId link = gateway->connect("inproc://later", NodeRole::kRegistry).value();
  TestNode late(shared, {"registry-1", NodeRole::kRegistry, 1});
  ASSERT_TRUE(late->listen("inproc://later"));
  EXPECT_EQ(gateway.wait_up().link, link);
}

TEST_F(NodeLinksTest, ConnectsAnewToAServerThatStartedAnew) {
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway);
  const LinkId link = gateway->connect(address_, NodeRole::kRegistry).value();
  EXPECT_EQ(gateway.wait_up().peer.incarnation, 1u);

  const std::string address = address_;
  registry_.reset();
  const LinkEvent down = gateway.wait_down();
  EXPECT_EQ(down.link, link);
  EXPECT_THAT(down.reason, ::testing::AnyOf("goodbye", "disconnected"));
  EXPECT_EQ(gateway->find("registry-0"), 0u);

  TestNode again(context_, {"registry-0", NodeRole::kRegistry, 2});
  ASSERT_TRUE(again->listen(address));
  const LinkEvent up = gateway.wait_up();
  EXPECT_EQ(up.link, link);
  EXPECT_EQ(up.peer.incarnation, 2u);
  EXPECT_EQ(gateway->find("registry-0"), link);
}

TEST_F(NodeLinksTest, ConnectsAnewWithinTheProcess) {
  TestContext shared;
  TestNode gateway(shared, kGateway);
  const LinkId link = gateway->connect("inproc://registry", NodeRole::kRegistry).value();
  for (std::uint64_t start = 1; start <= 3; ++start) {
    TestNode registry(shared, {"registry-1", NodeRole::kRegistry, start});
    ASSERT_TRUE(registry->listen("inproc://registry"));
    const LinkEvent up = gateway.wait_up();
    EXPECT_EQ(up.link, link);
    EXPECT_EQ(up.peer.incarnation, start);
    registry->stop(std::chrono::milliseconds{0});
    EXPECT_EQ(gateway.wait_down().reason, "goodbye");
  }
}

TEST_F(NodeLinksTest, SaysGoodbyeWhenItDisconnects) {
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway);
  const LinkId link = gateway->connect(address_, NodeRole::kRegistry).value();
  gateway.wait_up();
  const LinkEvent up = registry_->wait_up();
  gateway->disconnect(link);
  EXPECT_EQ(gateway.wait_down().reason, "closed here");
  const LinkEvent down = registry_->wait_down();
  EXPECT_EQ(down.link, up.link);
  EXPECT_EQ(down.reason, "goodbye");
}

TEST_F(NodeLinksTest, TakesDownAPeerThatSaysGoodbye) {
  RawPeer raw = linked_peer();
  wire::Envelope goodbye;
  goodbye.kind = FrameKind::kGoodbye;
  raw.send(goodbye);
  EXPECT_EQ(registry_->wait_down().reason, "goodbye");
}

TEST_F(NodeLinksTest, TakesDownAPeerThatIsSilent) {
  NodeSettings settings = quick_settings();
  settings.heartbeat_ms = 10;
  settings.peer_timeout_ms = 50;
  restart(settings);
  RawPeer raw = linked_peer();
  EXPECT_EQ(registry_->wait_down().reason, "silent for 50 ms");
  EXPECT_TRUE(raw.receive(FrameKind::kGoodbye));  // it may come anew
}

TEST_F(NodeLinksTest, KeepsAPeerThatSaysNothingButHeartbeats) {
  NodeSettings settings = quick_settings();
  settings.heartbeat_ms = 50;
  settings.peer_timeout_ms = 1500;
  restart(settings);
  RawPeer raw = linked_peer();
  const LinkId link = (*registry_)->find(kGateway.name);
  wire::Envelope heartbeat;
  heartbeat.kind = FrameKind::kHeartbeat;
  for (int i = 0; i < 40; ++i) {  // longer than the time-out
    ASSERT_TRUE(raw.receive(FrameKind::kHeartbeat));
    raw.send(heartbeat);
  }
  synchronise(raw);
  EXPECT_EQ((*registry_)->find(kGateway.name), link);
}

TEST_F(NodeLinksTest, TakesDownAServerThatIsSilentAndComesAnew) {
  // A server made by hand: it answers hellos, and nothing else.
  zmq::context_t zmq;
  zmq::socket_t router(zmq, zmq::socket_type::router);
  router.set(zmq::sockopt::linger, 0);
  router.set(zmq::sockopt::curve_server, true);
  router.set(zmq::sockopt::curve_secretkey, keys_.ring(NodeRole::kRegistry).own().secret_key);
  router.bind(kAnyPort);
  const std::string address = router.get(zmq::sockopt::last_endpoint);
  std::thread server([socket = std::move(router)]() mutable {
    wire::Envelope welcome;
    welcome.kind = FrameKind::kWelcome;
    welcome.incarnation = 5;
    welcome.type = wire::kTypeOf<wire::Hello>;
    const wire::Bytes head = wire::encode(welcome);
    const wire::Bytes body = wire::encode(wire::Hello{"frozen", NodeRole::kRegistry, 5});
    try {
      for (;;) {
        zmq::message_t routing;
        zmq::message_t frame;
        (void)socket.recv(routing);
        (void)socket.recv(frame);
        const auto envelope = wire::decode_envelope({frame.data<std::byte>(), frame.size()});
        while (frame.more()) (void)socket.recv(frame);
        if (envelope.value().kind != FrameKind::kHello) continue;
        socket.send(routing, zmq::send_flags::sndmore);
        socket.send(zmq::buffer(head), zmq::send_flags::sndmore);
        socket.send(zmq::buffer(body), zmq::send_flags::none);
      }
    } catch (const zmq::error_t&) {  // the end of the context
    }
  });
  {
    NodeSettings settings = quick_settings();
    settings.heartbeat_ms = 10;
    settings.peer_timeout_ms = 50;
    TestContext client_context(keys_.ring(NodeRole::kGateway));
    TestNode gateway(client_context, kGateway, settings);
    const LinkId link = gateway->connect(address, NodeRole::kRegistry).value();
    for (int connection = 0; connection < 2; ++connection) {
      const LinkEvent up = gateway.wait_up();
      EXPECT_EQ(up.link, link);
      EXPECT_EQ(up.peer.name, "frozen");
      EXPECT_EQ(gateway.wait_down().reason, "silent for 50 ms");
    }
  }
  zmq.shutdown();
  server.join();
}

TEST_F(NodeLinksTest, ConnectsAnewToAServerThatDoesNotAnswerItsHello) {
  zmq::context_t zmq;
  zmq::socket_t router(zmq, zmq::socket_type::router);
  router.set(zmq::sockopt::linger, 0);
  router.set(zmq::sockopt::curve_server, true);
  router.set(zmq::sockopt::curve_secretkey, keys_.ring(NodeRole::kRegistry).own().secret_key);
  router.bind(kAnyPort);
  NodeSettings settings = quick_settings();
  settings.heartbeat_ms = 10;
  settings.peer_timeout_ms = 50;
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway, settings);
  (void)gateway->connect(router.get(zmq::sockopt::last_endpoint), NodeRole::kRegistry);
  std::set<std::string> connections;
  while (connections.size() < 3) {
    zmq::message_t routing;
    zmq::message_t frame;
    ASSERT_TRUE(router.recv(routing));
    do {
      ASSERT_TRUE(router.recv(frame));
    } while (frame.more());
    connections.insert(routing.to_string());
  }
}

TEST_F(NodeLinksTest, ConnectsAnewWhenAServerOfThisProcessEndsBeforeItAnswers) {
  TestContext shared;
  NodeSettings settings = quick_settings();
  settings.peer_timeout_ms = 500;
  TestNode gateway(shared, kGateway, settings);
  {
    zmq::socket_t router(shared.get().internal().zmq(), zmq::socket_type::router);
    router.set(zmq::sockopt::linger, 0);
    router.bind("inproc://registry");
    (void)gateway->connect("inproc://registry", NodeRole::kRegistry);
    zmq::message_t frame;
    ASSERT_TRUE(router.recv(frame));
    // ZeroMQ closes sockets in a thread of its own, and the address would be taken until then.
    router.unbind("inproc://registry");
  }
  TestNode registry(shared, {"registry-1", NodeRole::kRegistry, 1});
  ASSERT_TRUE(registry->listen("inproc://registry"));
  EXPECT_EQ(gateway.wait_up().peer.name, "registry-1");
}

TEST_F(NodeLinksTest, LinksOverLocalSocketsToo) {
  const std::string address = "ipc://" + (keys_.path() / "registry.socket").string();
  EXPECT_EQ((*registry_)->listen(address).value(), address);
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway);
  (void)gateway->connect(address, NodeRole::kRegistry);
  EXPECT_EQ(gateway.wait_up().peer.name, "registry-0");
  const KeyPair stranger = generate_key_pair();
  RawPeer raw(address, server_key_, &stranger);
  EXPECT_GE(context_.wait_refused(Refusal::kUnknownKey), 1);
}

TEST_F(NodeLinksTest, AnswersEveryRequestOnceWhileLinksBreak) {
  constexpr int kAskers = 4;
  constexpr int kRequests = 2000;
  const auto serve = [this] {
    const auto echo = registry_->system().spawn([](caf::event_based_actor*) {
      return caf::behavior{[](const wire::ResolveModel&) { return wire::ModelRecord{}; }};
    });
    (*registry_)->publish("echo", echo, Run::kScheduled);
  };
  serve();
  const std::string address = address_;
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway);
  const LinkId link = gateway->connect(address, NodeRole::kRegistry).value();
  gateway.wait_up();

  struct State {
    int asked = 0;
    int answered = 0;
    int failed = 0;
  };
  testing::Events<State> done;
  const auto asker = [&](caf::stateful_actor<State>* self) -> caf::behavior {
    const auto count = [self, &done] {
      if (++self->state.answered == kRequests) done.add(self->state);
    };
    return {[self, count, link, &gateway](const wire::Nudge&) {
      // A few at a time, each time over the link as it is then.
      for (int i = 0; i < 20 && self->state.asked < kRequests; ++i, ++self->state.asked) {
        self->request(gateway->remote(link, "echo"), caf::infinite, wire::ResolveModel{"x"})
            .then([count](const wire::ModelRecord&) { count(); },
                  [count, self](const caf::error&) {
                    ++self->state.failed;
                    count();
                  });
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
    registry_.reset();
    gateway.wait_down();
    registry_ = std::make_unique<TestNode>(context_,
                                           NodeIdentity{"registry-0", NodeRole::kRegistry, start});
    serve();
    ASSERT_TRUE((*registry_)->listen(address));
    EXPECT_EQ(gateway.wait_up().peer.incarnation, start);
  }
  for (int i = 0; i < kAskers; ++i) {
    const auto state = done.wait();
    ASSERT_TRUE(state);
    EXPECT_EQ(state->answered, kRequests);
  }
  EXPECT_EQ(client_context.value("conclave_fabric_requests_in_flight", {}, true), 0);
  for (const auto& actor : askers) caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
}

TEST_F(NodeLinksTest, ReplacesALinkByALaterConnectionOfTheNode) {
  RawPeer first = linked_peer(kGateway);
  NodeIdentity later = kGateway;
  RawPeer same = peer(NodeRole::kGateway);
  same.link(later);
  EXPECT_EQ(registry_->wait_down().reason, "connected anew");
  registry_->wait_up();
  EXPECT_TRUE(first.receive(FrameKind::kGoodbye));

  later.incarnation = kGateway.incarnation + 1;
  RawPeer newer = peer(NodeRole::kGateway);
  newer.link(later);
  EXPECT_EQ(registry_->wait_down().reason, "started anew");
  EXPECT_EQ(registry_->wait_up().peer.incarnation, later.incarnation);
  EXPECT_EQ(context_.value("conclave_fabric_links", {}, true), 1);
}

TEST_F(NodeLinksTest, RefusesAnEarlierStartOfALinkedNode) {
  RawPeer present = linked_peer(kGateway);
  RawPeer raw = peer(NodeRole::kGateway);
  wire::Envelope hello;
  hello.kind = FrameKind::kHello;
  hello.incarnation = kGateway.incarnation - 1;
  raw.send(hello, wire::Hello{kGateway.name, kGateway.role, hello.incarnation});
  const auto answer = raw.receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first.kind, FrameKind::kError);
  EXPECT_EQ(context_.wait_refused(Refusal::kStale), 1);
  synchronise(present);
}

TEST_F(NodeLinksTest, AnswersAHelloThatIsSaidTwice) {
  RawPeer raw = linked_peer();
  raw.link(kGateway);
  synchronise(raw);
  EXPECT_EQ(context_.value("conclave_fabric_links", {}, true), 1);
}

TEST_F(NodeLinksTest, TellsTheSameNameOfTwoRolesApart) {
  RawPeer gateway = linked_peer({"node-0", NodeRole::kGateway, 1});
  RawPeer router = linked_peer({"node-0", NodeRole::kRouter, 1});
  synchronise(gateway);
  synchronise(router);
}

}  // namespace
}  // namespace conclave::fabric
