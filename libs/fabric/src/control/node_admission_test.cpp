// Who gets in: keys, roles, names and addresses.
#include <gmock/gmock.h>

#include <cstring>
#include <string>

#include "context_internal.hpp"
#include "testing_node_links.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using testing::kAnyPort;
using testing::kGateway;
using testing::NodeLinksTest;
using testing::quick_settings;
using testing::RawPeer;
using testing::TestContext;
using testing::TestNode;
using wire::FrameKind;
using wire::NodeRole;

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

}  // namespace
}  // namespace conclave::fabric
