#include "conclave/fabric/context.hpp"

#include <gmock/gmock.h>

#include <string>
#include <zmq.hpp>

#include "context_internal.hpp"
#include "testing_process.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using testing::KeyDirectory;
using testing::TestContext;
using wire::NodeRole;

constexpr const char* kAnyPort = "tcp://127.0.0.1:*";

/// Sockets of a worker and a router, as the data plane uses them.
class ContextTest : public ::testing::TestWithParam<Encryption> {
 protected:
  ContextTest()
      : server_(worker_.get().internal().zmq(), zmq::socket_type::router),
        client_(router_.get().internal().zmq(), zmq::socket_type::dealer) {
    const auto configured = worker_.get().internal().configure_server(
        server_, kAnyPort, NodeRole::kExpertWorker, GetParam(), {});
    EXPECT_TRUE(configured);
    server_.bind(kAnyPort);
    address_ = server_.get(zmq::sockopt::last_endpoint);
  }

  zmq::message_t exchange() {
    client_.connect(address_);
    client_.set(zmq::sockopt::sndtimeo, -1);  // until there is a connection
    client_.send(zmq::str_buffer("hello"), zmq::send_flags::none);
    server_.set(zmq::sockopt::rcvtimeo, -1);
    zmq::message_t routing;
    zmq::message_t body;
    EXPECT_TRUE(server_.recv(routing));
    EXPECT_TRUE(server_.recv(body));
    return body;
  }

  KeyDirectory keys_;
  TestContext worker_{keys_.ring(NodeRole::kExpertWorker)};
  TestContext router_{keys_.ring(NodeRole::kRouter)};
  zmq::socket_t server_;
  zmq::socket_t client_;
  std::string address_;
};

class UnencryptedContextTest : public ContextTest {};
INSTANTIATE_TEST_SUITE_P(Encryption, UnencryptedContextTest, ::testing::Values(Encryption::kNone));

TEST_P(UnencryptedContextTest, RefusesAPasswordThatAnotherKeyMade) {
  const KeyPair own = keys_.ring(NodeRole::kRouter).own();
  zmq::context_t zmq;
  zmq::socket_t client(zmq, zmq::socket_type::dealer);
  client.set(zmq::sockopt::linger, 0);
  client.set(zmq::sockopt::plain_username, own.public_key);  // public: anybody may know it
  client.set(zmq::sockopt::plain_password, std::string(40, '0'));
  client.connect(address_);
  EXPECT_GE(worker_.wait_refused(Refusal::kUnknownKey), 1);
}

INSTANTIATE_TEST_SUITE_P(Encryption, ContextTest,
                         ::testing::Values(Encryption::kCurve, Encryption::kNone),
                         [](const auto& encryption) {
                           return encryption.param == Encryption::kCurve ? "Curve" : "None";
                         });

TEST_P(ContextTest, AdmitsTheRolesOfTheArrowsAndKnowsTheSender) {
  ASSERT_TRUE(router_.get().internal().configure_client(client_, address_, NodeRole::kExpertWorker,
                                                        GetParam(), {}));
  auto body = exchange();
  EXPECT_EQ(body.to_string(), "hello");
  EXPECT_EQ(worker_.get().internal().sender_role(body), NodeRole::kRouter);
}

TEST_P(ContextTest, RefusesAKeyOfAnotherRole) {
  TestContext gateway(keys_.ring(NodeRole::kGateway));
  zmq::socket_t client(gateway.get().internal().zmq(), zmq::socket_type::dealer);
  ASSERT_TRUE(gateway.get().internal().configure_client(client, address_, NodeRole::kExpertWorker,
                                                        GetParam(), {}));
  client.connect(address_);
  EXPECT_GE(worker_.wait_refused(Refusal::kWrongRole), 1);
}

TEST_P(ContextTest, RefusesAKeyThatNobodyHas) {
  KeyDirectory others;
  TestContext stranger(others.ring(NodeRole::kRouter));
  zmq::socket_t client(stranger.get().internal().zmq(), zmq::socket_type::dealer);
  ASSERT_TRUE(stranger.get().internal().configure_client(client, address_, NodeRole::kExpertWorker,
                                                         GetParam(), {}));
  // It knows where the server is, but not the server's key.
  client.connect(address_);
  SocketMonitor monitor = stranger.get().internal().monitor(client);
  if (GetParam() == Encryption::kNone) {
    EXPECT_GE(worker_.wait_refused(Refusal::kUnknownKey), 1);
  } else {
    zmq::pollitem_t item{monitor.handle(), 0, ZMQ_POLLIN, 0};
    ASSERT_GT(zmq_poll(&item, 1, 30'000), 0);
    const auto event = monitor.next();
    ASSERT_TRUE(event);
    EXPECT_NE(event->event, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
  }
}

TEST_P(ContextTest, NeedsTheServersPublicKey) {
  std::filesystem::remove(keys_.path() / "scheduler.pub");
  TestContext lacking(keys_.ring(NodeRole::kRouter));
  zmq::socket_t client(lacking.get().internal().zmq(), zmq::socket_type::dealer);
  EXPECT_EQ(lacking.get()
                .internal()
                .configure_client(client, address_, NodeRole::kScheduler, GetParam(), {})
                .error()
                .code,
            ErrorCode::kNotFound);
}

TEST_P(ContextTest, RefusesToServeInAnotherRole) {
  zmq::socket_t server(router_.get().internal().zmq(), zmq::socket_type::router);
  EXPECT_EQ(router_.get()
                .internal()
                .configure_server(server, kAnyPort, NodeRole::kScheduler, GetParam(), {})
                .error()
                .code,
            ErrorCode::kInvalidArgument);
}

TEST(RefusalTest, CountsEachAndLogsRepeatsOnce) {
  TestContext context;
  for (int i = 0; i < 3; ++i) context.get().refused(Refusal::kOversized, "a", "x");
  context.get().refused(Refusal::kOversized, "b", "x");
  EXPECT_EQ(context.refusals(Refusal::kOversized), 4);
  EXPECT_THAT(context.lines().wait().value(), ::testing::HasSubstr("\"peer\":\"a\""));
  EXPECT_THAT(context.lines().wait().value(), ::testing::HasSubstr("\"peer\":\"b\""));
}

}  // namespace
}  // namespace conclave::fabric
