// How links come and go, and what nodes do with peers that break the rules.
#include <gmock/gmock.h>

#include <cstring>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "conclave/wire/limits.hpp"
#include "context_internal.hpp"
#include "testing_process.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using testing::ask;
using testing::KeyDirectory;
using testing::kPatience;
using testing::quick_settings;
using testing::RawPeer;
using testing::TestContext;
using testing::TestNode;
using wire::FrameKind;
using wire::NodeRole;

constexpr const char* kAnyPort = "tcp://127.0.0.1:*";
const NodeIdentity kGateway{"gateway-0", NodeRole::kGateway, 7};

/// A registry that listens over TCP, and peers that are made by hand.
class NodeLinksTest : public ::testing::Test {
 protected:
  NodeLinksTest() { restart(quick_settings()); }

  void restart(const NodeSettings& settings, WallClock wall_clock = {}) {
    registry_.reset();
    registry_ = std::make_unique<TestNode>(
        context_, NodeIdentity{"registry-0", NodeRole::kRegistry, 1}, settings, wall_clock);
    address_ = (*registry_)->listen(kAnyPort).value();
  }

  RawPeer peer(NodeRole role) {
    const KeyPair own = keys_.ring(role).own();
    return {address_, server_key_, &own};
  }
  RawPeer linked_peer(const NodeIdentity& self = kGateway) {
    RawPeer raw = peer(self.role);
    raw.link(self);
    EXPECT_EQ(registry_->wait_up().peer, self);
    return raw;
  }
  /// A request that is refused: what was sent before it has been handled when the answer is there.
  static void synchronise(RawPeer& raw, std::uint64_t id = 99) {
    wire::Envelope request;
    request.kind = FrameKind::kRequest;
    request.request_id = id;
    request.target = "nobody";
    raw.send(request, wire::ResolveModel{"x"});
    const auto answer = raw.receive(FrameKind::kError);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->first.request_id, id);
    EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kNotFound);
  }

  KeyDirectory keys_;
  const std::string server_key_ = keys_.ring(NodeRole::kRegistry).own().public_key;
  TestContext context_{keys_.ring(NodeRole::kRegistry)};
  std::unique_ptr<TestNode> registry_;
  std::string address_;
};

// ---- who gets in ----

TEST_F(NodeLinksTest, ShutsOutPeersWithoutAKey) {
  // The greeting of a peer that speaks no CURVE. Made by hand, because libzmq's own peer hangs up
  // so fast that the server may not get to read it.
  std::string greeting(64, '\0');
  greeting[0] = '\xff';
  greeting[9] = '\x7f';
  greeting[10] = 3;
  greeting.replace(12, 4, "NULL");
  zmq::context_t zmq;
  zmq::socket_t stream(zmq, zmq::socket_type::stream);
  stream.set(zmq::sockopt::linger, 0);
  stream.connect(address_);
  zmq::message_t id;
  zmq::message_t empty;
  ASSERT_TRUE(stream.recv(id));
  ASSERT_TRUE(stream.recv(empty));  // connected
  stream.send(id, zmq::send_flags::sndmore);
  stream.send(zmq::buffer(greeting), zmq::send_flags::none);
  EXPECT_EQ(context_.wait_refused(Refusal::kNoKey), 1);
}

TEST_F(NodeLinksTest, GetsInWhenAServerThatDidNotFitHasBecomeOneThatDoes) {
  NodeSettings settings = quick_settings();
  settings.heartbeat_ms = 10;
  settings.peer_timeout_ms = 200;
  TestContext client_context(keys_.ring(NodeRole::kGateway));
  TestNode gateway(client_context, kGateway, settings);
  std::string address;
  {
    zmq::context_t zmq;  // speaks no CURVE
    zmq::socket_t wrong(zmq, zmq::socket_type::router);
    wrong.set(zmq::sockopt::linger, 0);
    wrong.bind(kAnyPort);
    address = wrong.get(zmq::sockopt::last_endpoint);
    (void)gateway->connect(address, NodeRole::kRegistry);
    const auto line = client_context.lines().wait(
        [](const std::string& text) { return text.find("turned_away") != std::string::npos; });
    EXPECT_TRUE(line);
  }
  TestNode right(context_, {"registry-1", NodeRole::kRegistry, 1});
  ASSERT_TRUE(right->listen(address));
  EXPECT_EQ(gateway.wait_up().peer.name, "registry-1");
}

TEST_F(NodeLinksTest, ShutsOutUnknownKeys) {
  const KeyPair stranger = generate_key_pair();
  RawPeer raw(address_, server_key_, &stranger);
  EXPECT_GE(context_.wait_refused(Refusal::kUnknownKey), 1);
}

TEST_F(NodeLinksTest, ShutsOutPeersThatExpectAnotherServer) {
  const KeyPair own = keys_.ring(NodeRole::kGateway).own();
  RawPeer raw(address_, generate_key_pair().public_key, &own);
  EXPECT_GE(context_.wait_refused(Refusal::kUnknownKey), 1);
}

TEST_F(NodeLinksTest, ShutsOutKeysOfRolesThatHaveNoBusinessHere) {
  RawPeer raw = peer(NodeRole::kRegistry);  // a registry is no client of a registry
  EXPECT_GE(context_.wait_refused(Refusal::kWrongRole), 1);
}

TEST_F(NodeLinksTest, RefusesAHelloOfAnotherRoleThanTheKeys) {
  RawPeer raw = peer(NodeRole::kGateway);
  wire::Envelope hello;
  hello.kind = FrameKind::kHello;
  hello.incarnation = 1;
  raw.send(hello, wire::Hello{"operator-0", NodeRole::kOperator, 1});
  const auto answer = raw.receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first.kind, FrameKind::kError);
  EXPECT_EQ(context_.wait_refused(Refusal::kWrongRole), 1);
  EXPECT_EQ((*registry_)->find("operator-0"), 0u);
}

TEST_F(NodeLinksTest, NeedsKeysForEverythingButInproc) {
  TestContext keyless;
  TestNode node(keyless, kGateway);
  EXPECT_EQ(node->listen(kAnyPort).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(node->connect(address_, NodeRole::kRegistry).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(node->listen("inproc://gateway"));
}

TEST_F(NodeLinksTest, RefusesMalformedAddresses) {
  for (const char* address : {"", "tcp://", "127.0.0.1:80", "udp://127.0.0.1:80", "tcp://127.0.0.1",
                              "tcp://127.0.0.1:port", "inproc://"}) {
    EXPECT_EQ((*registry_)->listen(address).error().code, ErrorCode::kInvalidArgument) << address;
  }
  EXPECT_EQ((*registry_)->connect("tcp://127.0.0.1", NodeRole::kScheduler).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ((*registry_)->listen(address_).error().code, ErrorCode::kUnavailable);  // in use
}

TEST_F(NodeLinksTest, RefusesSettingsAndIdentitiesThatCannotWork) {
  caf::actor_system& system = registry_->system();
  NodeSettings settings = quick_settings();
  const auto code = [&](NodeIdentity identity) {
    return Node::create(context_.get(), system, std::move(identity), settings).error().code;
  };
  EXPECT_EQ(code({"", NodeRole::kRegistry, 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({std::string(257, 'x'), NodeRole::kRegistry, 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({"x", NodeRole::kGateway, 1}), ErrorCode::kInvalidArgument);  // not its keys
  settings.heartbeat_ms = settings.peer_timeout_ms;
  EXPECT_EQ(code({"x", NodeRole::kRegistry, 1}), ErrorCode::kInvalidArgument);
}

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

// ---- what is malformed, too large, or not for anybody ----

TEST_F(NodeLinksTest, DropsWhatComesBeforeAHello) {
  RawPeer raw = peer(NodeRole::kGateway);
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.target = "catalog";
  raw.send(cast, wire::ResolveModel{"x"});
  EXPECT_TRUE(raw.receive(FrameKind::kGoodbye));
  EXPECT_EQ(context_.wait_refused(Refusal::kMalformed), 1);
  raw.link(kGateway);
}

TEST_F(NodeLinksTest, DropsMalformedFramesAndKeepsTheLink) {
  RawPeer raw = linked_peer();
  const auto bytes = [](std::size_t size) { return wire::Bytes(size, std::byte{0xab}); };
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.incarnation = kGateway.incarnation;
  cast.type = wire::kTypeOf<wire::ResolveModel>;
  cast.target = "catalog";
  const wire::Bytes head = wire::encode(cast);
  const wire::Bytes body = wire::encode(wire::ResolveModel{"x"});

  raw.send_frames({wire::Bytes()});                             // nothing
  raw.send_frames({bytes(100)});                                // no envelope
  raw.send_frames({bytes(100), bytes(100)});                    // neither
  raw.send_frames({head});                                      // a body is missing
  raw.send_frames({head, body, body});                          // one too many
  raw.send_frames({head, body, body, body, body, body, body});  // many too many
  cast.type = 0;
  raw.send_frames({wire::encode(cast), body});  // a body of no type
  cast.type = wire::kTypeOf<wire::ResolveModel>;
  cast.payload_bytes = 1;
  raw.send_frames({wire::encode(cast), body});  // announces what does not come
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 8);
}

TEST_F(NodeLinksTest, RefusesBodiesThatContradictTheirType) {
  const caf::actor anything =
      registry_->system().spawn([] { return caf::behavior{[](const wire::ResolveModel&) {}}; });
  (*registry_)->publish("anything", anything, Run::kScheduled);
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.incarnation = kGateway.incarnation;
  request.target = "anything";
  request.request_id = 1;
  request.type = wire::kTypeOf<wire::ResolveModel>;
  raw.send_frames({wire::encode(request), wire::Bytes(64, std::byte{0xff})});
  auto answer = raw.receive(FrameKind::kError);
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kCorruptData);

  request.type = wire::kTypeOf<wire::Hello>;  // a message, but none for actors
  raw.send_frames({wire::encode(request), wire::encode(wire::Hello{"x", NodeRole::kGateway, 1})});
  request.type = wire::kTypeOf<wire::ResolveModel>;
  request.request_id = 0;  // no id
  raw.send_frames({wire::encode(request), wire::encode(wire::ResolveModel{"x"})});
  request.request_id = std::uint64_t{1} << 60;  // beyond CAF's
  raw.send_frames({wire::encode(request), wire::encode(wire::ResolveModel{"x"})});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 4);
}

TEST_F(NodeLinksTest, DropsFramesBeyondTheLimits) {
  RawPeer raw = linked_peer();
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.incarnation = kGateway.incarnation;
  cast.type = wire::kTypeOf<wire::ResolveModel>;
  cast.target = "catalog";
  raw.send_frames({wire::Bytes(4097), wire::encode(wire::ResolveModel{"x"})});
  raw.send_frames({wire::encode(cast), wire::Bytes(wire::kMessageBytesMax + 1)});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kOversized), 2);
}

TEST_F(NodeLinksTest, DropsTheConnectionOfAFrameFarBeyondTheLimits) {
  RawPeer raw = linked_peer();
  raw.send_frames({wire::Bytes(wire::kMessageBytesMax + (2u << 20))});
  EXPECT_EQ(registry_->wait_down().reason, "disconnected");
}

TEST_F(NodeLinksTest, DropsMessagesOfAnotherVersion) {
  RawPeer raw = linked_peer();
  wire::Envelope cast;
  cast.version = wire::kWireVersion + 1;
  cast.kind = FrameKind::kCast;
  cast.target = "catalog";
  raw.send(cast, wire::ResolveModel{"x"});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kVersion), 1);
}

TEST_F(NodeLinksTest, DropsMessagesOfAnotherStartOfTheNode) {
  RawPeer raw = linked_peer();
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.incarnation = kGateway.incarnation + 1;
  cast.target = "catalog";
  raw.send(cast, wire::ResolveModel{"x"});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kStale), 1);
}

TEST_F(NodeLinksTest, SurvivesBytesThatAreNoZeroMq) {
  zmq::context_t zmq;
  zmq::socket_t stream(zmq, zmq::socket_type::stream);
  stream.set(zmq::sockopt::linger, 0);
  stream.connect(address_);
  zmq::message_t id;
  zmq::message_t empty;
  ASSERT_TRUE(stream.recv(id));
  ASSERT_TRUE(stream.recv(empty));  // connected
  stream.send(id, zmq::send_flags::sndmore);
  stream.send(zmq::str_buffer("GET / HTTP/1.1\r\nHost: registry\r\n\r\n"), zmq::send_flags::none);
  RawPeer raw = linked_peer();
  synchronise(raw);
}

// ---- requests and answers of peers made by hand ----

TEST_F(NodeLinksTest, RefusesARequestWhoseDeadlineHasPassed) {
  restart(quick_settings(),
          [] { return std::chrono::system_clock::time_point(std::chrono::seconds(1000)); });
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.target = "catalog";
  request.request_id = 5;
  request.deadline_unix_ns = 999'999'999'999;
  raw.send(request, wire::ResolveModel{"x"});
  const auto answer = raw.receive(FrameKind::kError);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first.request_id, 5u);
  EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(context_.wait_refused(Refusal::kStale), 1);
}

TEST_F(NodeLinksTest, SendsDeadlineTraceAndIdWithARequest) {
  NodeSettings settings = quick_settings();
  settings.request_timeout_ms = 60'000;
  restart(settings,
          [] { return std::chrono::system_clock::time_point(std::chrono::seconds(1000)); });
  RawPeer raw = linked_peer();
  const LinkId link = (*registry_)->find(kGateway.name);
  wire::Generate generate;
  generate.trace.trace_id[0] = 42;
  auto answer = std::async(std::launch::async, [&] {
    return ask<wire::Accepted>(registry_->system(),
                               (*registry_)->remote<InferenceActor>(link, "inference"), generate);
  });
  const auto request = raw.receive(FrameKind::kRequest);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->first.target, "inference");
  EXPECT_EQ(request->first.incarnation, 1u);
  EXPECT_EQ(request->first.deadline_unix_ns, 1'060'000'000'000);
  EXPECT_EQ(request->first.trace, generate.trace);
  EXPECT_EQ(request->second, wire::Message(generate));

  wire::Envelope reply;
  reply.kind = FrameKind::kReply;
  reply.request_id = request->first.request_id;
  raw.send(reply, wire::Accepted{17});
  raw.send(reply, wire::Accepted{18});  // once is enough
  EXPECT_EQ(answer.get().value().prompt_tokens, 17u);
  synchronise(raw);
}

TEST_F(NodeLinksTest, FailsRequestsWhoseAnswersAreMalformed) {
  RawPeer raw = linked_peer();
  const LinkId link = (*registry_)->find(kGateway.name);
  const auto ask_raw = [&](const std::function<void(wire::Envelope)>& reply) {
    auto answer = std::async(std::launch::async, [&] {
      return ask<wire::ModelRecord>(registry_->system(),
                                    (*registry_)->remote<CatalogActor>(link, "catalog"),
                                    wire::ResolveModel{"x"});
    });
    const auto request = raw.receive(FrameKind::kRequest);
    wire::Envelope envelope;
    envelope.kind = FrameKind::kReply;
    envelope.incarnation = kGateway.incarnation;
    envelope.request_id = request ? request->first.request_id : 0;
    reply(envelope);
    return answer.get().error().code;
  };

  const auto garbage = ask_raw([&](wire::Envelope reply) {
    reply.type = wire::kTypeOf<wire::ModelRecord>;
    raw.send_frames({wire::encode(reply), wire::Bytes(64, std::byte{0xff})});
  });
  const auto wrong_kind = ask_raw([&](const wire::Envelope& reply) {
    raw.send(reply, wire::ErrorBody{{ErrorCode::kNotFound, "as a reply"}});
  });
  const auto not_for_actors = ask_raw([&](const wire::Envelope& reply) {
    raw.send(reply, wire::Hello{"x", NodeRole::kGateway, 1});
  });
  const auto wrong_type =
      ask_raw([&](const wire::Envelope& reply) { raw.send(reply, wire::Accepted{1}); });

  EXPECT_EQ(garbage, ErrorCode::kCorruptData);
  EXPECT_EQ(wrong_kind, ErrorCode::kCorruptData);
  EXPECT_EQ(not_for_actors, ErrorCode::kCorruptData);
  EXPECT_EQ(wrong_type, ErrorCode::kInternal);  // CAF's own: not what was asked for
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 3);
}

TEST_F(NodeLinksTest, RefusesTheSameRequestTwiceAtATime) {
  const auto silent = registry_->system().spawn([](caf::event_based_actor* self) {
    return caf::behavior{[self](const wire::ResolveModel&) -> caf::result<wire::ModelRecord> {
      return self->make_response_promise<wire::ModelRecord>();
    }};
  });
  (*registry_)->publish("silent", silent, Run::kScheduled);
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.target = "silent";
  request.request_id = 1;
  raw.send(request, wire::ResolveModel{"x"});
  raw.send(request, wire::ResolveModel{"x"});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 1);
}

TEST_F(NodeLinksTest, RefusesMoreRequestsOfAPeerThanMayWait) {
  NodeSettings settings = quick_settings();
  settings.requests_max = 2;
  restart(settings);
  const auto silent = registry_->system().spawn([](caf::event_based_actor* self) {
    return caf::behavior{[self](const wire::ResolveModel&) -> caf::result<wire::ModelRecord> {
      return self->make_response_promise<wire::ModelRecord>();
    }};
  });
  (*registry_)->publish("silent", silent, Run::kScheduled);
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.target = "silent";
  for (request.request_id = 1; request.request_id <= 3; ++request.request_id) {
    raw.send(request, wire::ResolveModel{"x"});
  }
  const auto answer = raw.receive(FrameKind::kError);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first.request_id, 3u);
  EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kOverloaded);
}

// ---- peers that do not read ----

/// As a peer that takes nothing from its socket: what is sent to it waits with the sender.
class SlowPeerTest : public NodeLinksTest {
 protected:
  SlowPeerTest() {
    NodeSettings settings = quick_settings();
    settings.queue_bytes = 8u << 20;
    restart(settings);
    raw_.emplace(linked_peer());
    link_ = (*registry_)->find(kGateway.name);
    large_.text.assign(1u << 20, 'x');
  }

  std::optional<RawPeer> raw_;
  LinkId link_ = 0;
  wire::Generate large_;
};

TEST_F(SlowPeerTest, RefusesRequestsWhenTooMuchWaits) {
  const auto remote = (*registry_)->remote<InferenceActor>(link_, "inference");
  testing::Events<base::Error> errors;
  const auto asker = registry_->system().spawn([&](caf::event_based_actor* self) {
    for (int i = 0; i < 200; ++i) {
      self->request(remote, caf::infinite, large_)
          .then([](const wire::Accepted&) {},
                [&](const caf::error& error) { errors.add(from_caf(error)); });
    }
    return caf::behavior{[](const wire::Nudge&) {}};
  });
  const auto error = errors.wait();
  caf::anon_send_exit(asker, caf::exit_reason::user_shutdown);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::kOverloaded);
  registry_.reset();  // while `errors` is there
}

TEST_F(SlowPeerTest, TakesTheLinkDownWhenACastCannotBeKept) {
  const auto remote = (*registry_)->remote<InferenceActor>(link_, "inference");
  for (int i = 0; i < 200; ++i) caf::anon_send(remote, large_);
  EXPECT_EQ(registry_->wait_down().reason, "takes too little of what it is sent");
}

}  // namespace
}  // namespace conclave::fabric
