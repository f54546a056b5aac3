// What the server does with clients that are slow, gone or greedy.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "testing_server.hpp"

namespace conclave::http::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Long enough for a request on a busy machine, short enough for a test.
constexpr milliseconds kShort{200};

/// Sends a byte over and over, faster than any timeout, until the server has had enough or
/// `limit` has passed; returns how long that took.
milliseconds trickle(RawSocket& client, Server& server, milliseconds limit) {
  const auto start = steady_clock::now();
  while (server.stats().timeouts == 0 && steady_clock::now() - start < limit) {
    if (!client.send("a")) break;
    const auto next = steady_clock::now() + milliseconds{5};
    while (steady_clock::now() < next) std::this_thread::yield();
  }
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
}

TEST(ServerTimeoutTest, EndsAHeaderThatTrickles) {
  ServerOptions options;
  options.header_timeout = kShort;
  const auto server = serve(echo, options);
  RawSocket client(server->port());

  client.send("GET /");
  const auto took = trickle(client, *server, kPatience);

  EXPECT_LT(took, kPatience / 2);
  EXPECT_EQ(client.read_response().status, 408U);
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_EQ(server->stats().timeouts, 1U);
  EXPECT_EQ(server->stats().requests_rejected, 1U);
}

TEST(ServerTimeoutTest, EndsABodyThatTrickles) {
  ServerOptions options;
  options.body_timeout = kShort;
  const auto server = serve(echo, options);
  RawSocket client(server->port());

  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
  const auto took = trickle(client, *server, kPatience);

  EXPECT_LT(took, kPatience / 2);
  EXPECT_EQ(client.read_response().status, 408U);
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_EQ(server->stats().timeouts, 1U);
}

TEST(ServerTimeoutTest, ClosesAConnectionThatNeverAsks) {
  ServerOptions options;
  options.header_timeout = kShort;
  const auto server = serve(echo, options);
  RawSocket client(server->port());

  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_EQ(server->stats().timeouts, 1U);
}

TEST(ServerTimeoutTest, ClosesAnIdleConnection) {
  ServerOptions options;
  options.idle_timeout = kShort;
  const auto server = serve(echo, options);
  RawSocket client(server->port());

  client.send(get("/"));
  EXPECT_EQ(client.read_response().status, 200U);

  EXPECT_TRUE(client.closed_by_server());
  EXPECT_EQ(server->stats().timeouts, 1U);
}

TEST(ServerTimeoutTest, GivesALaterRequestItsOwnHeaderTime) {
  ServerOptions options;
  options.header_timeout = kShort;
  const auto server = serve(echo, options);
  RawSocket client(server->port());
  client.send(get("/"));
  EXPECT_EQ(client.read_response().status, 200U);

  // Idle for longer than a header may take, then a header that stalls.
  const auto later = steady_clock::now() + 2 * kShort;
  while (steady_clock::now() < later) std::this_thread::yield();
  EXPECT_EQ(server->stats().timeouts, 0U);
  client.send("GET / HT");

  EXPECT_EQ(client.read_response().status, 408U);
}

TEST(ServerTimeoutTest, LeavesTheHandlerItsTime) {
  ServerOptions options;
  options.header_timeout = options.body_timeout = options.idle_timeout = kShort;
  options.write_timeout = kShort;
  Desk desk;
  const auto server = serve(desk.handler(), options);
  RawSocket client(server->port());
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);

  const auto later = steady_clock::now() + 3 * kShort;
  while (steady_clock::now() < later) std::this_thread::yield();
  exchange->begin(event_stream());
  EXPECT_TRUE(exchange->write("slow"));
  const auto much_later = steady_clock::now() + 3 * kShort;
  while (steady_clock::now() < much_later) std::this_thread::yield();
  EXPECT_TRUE(exchange->write(" answer"));
  exchange->end();

  EXPECT_EQ(client.read_response().body, "slow answer");
  EXPECT_EQ(server->stats().timeouts, 0U);
}

TEST(ServerTimeoutTest, CutsAClientThatDoesNotReadItsAnswer) {
  ServerOptions options;
  options.write_timeout = kShort;
  const auto server = serve(
      [](const std::shared_ptr<Exchange>& exchange) {
        exchange->respond(text(std::string(std::size_t{32} << 20, 'x')));
      },
      options);
  RawSocket client(server->port(), 4096);

  client.send(get("/"));

  EXPECT_TRUE(eventually([&] { return server->stats().timeouts == 1; }));
  EXPECT_TRUE(eventually([&] { return server->stats().connections_open == 0; }));
  EXPECT_EQ(server->stats().exchanges_running, 0U);
}

TEST(ServerTimeoutTest, CutsAStreamThatItsClientDoesNotRead) {
  ServerOptions options;
  options.stream_buffer_bytes_max = std::size_t{1} << 20;
  Desk desk;
  const auto server = serve(desk.handler(), options);
  RawSocket client(server->port(), 4096);
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  Signal lost;
  exchange->on_close([&] { lost.set(); });
  exchange->begin(event_stream());

  const std::string chunk(1000, 'x');
  std::size_t written = 0;
  while (exchange->write(chunk)) {
    written += chunk.size();
    ASSERT_LT(written, std::size_t{64} << 20);  // the kernel's share is a few MiB
  }

  EXPECT_GE(written, std::size_t{1'000'000});  // with its framing, what the bound allows
  EXPECT_TRUE(lost.wait());
  EXPECT_FALSE(exchange->write("more"));
  EXPECT_EQ(server->stats().streams_overflowed, 1U);
  EXPECT_EQ(server->stats().connections_open, 0U);
}

TEST(ServerTimeoutTest, RefusesAChunkThatNeverFits) {
  ServerOptions options;
  options.stream_buffer_bytes_max = 100;
  Desk desk;
  const auto server = serve(desk.handler(), options);
  RawSocket client(server->port());
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  exchange->begin({});

  EXPECT_FALSE(exchange->write(std::string(101, 'x')));
  EXPECT_TRUE(client.closed_by_server());
}

class ServerVanishTest : public ::testing::TestWithParam<bool> {};

TEST_P(ServerVanishTest, TellsTheHandlerWhileItWorks) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  Signal lost;
  exchange->on_close([&] { lost.set(); });

  client.close(GetParam());

  EXPECT_TRUE(lost.wait());
  exchange->respond(text("to nobody"));
  EXPECT_EQ(lost.count(), 1);
  EXPECT_EQ(server->stats().clients_vanished, 1U);
  EXPECT_TRUE(eventually([&] { return server->stats().connections_open == 0; }));
  EXPECT_EQ(server->stats().exchanges_running, 0U);
}

TEST_P(ServerVanishTest, TellsTheHandlerWithinAStream) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  Signal lost;
  exchange->on_close([&] { lost.set(); });
  exchange->begin(event_stream());
  EXPECT_TRUE(exchange->write("data: 1\n\n"));
  client.read_through("data: 1\n\n");

  client.close(GetParam());

  EXPECT_TRUE(lost.wait());
  EXPECT_FALSE(exchange->write("data: 2\n\n"));
}

INSTANTIATE_TEST_SUITE_P(Ends, ServerVanishTest, ::testing::Bool(),
                         [](const auto& end) { return end.param ? "Reset" : "Orderly"; });

TEST(ServerVanishTest, IsNoticedBehindPipelinedRequests) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());
  client.send(get("/1") + get("/2"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  Signal lost;
  exchange->on_close([&] { lost.set(); });

  client.close();

  EXPECT_TRUE(lost.wait());
  EXPECT_EQ(desk.waiting(), 0U);  // the second was nobody's any more
}

TEST(ServerVanishTest, IsToldToWhoAsksAfterwards) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  client.close();
  ASSERT_TRUE(eventually([&] { return server->stats().connections_open == 0; }));

  int told = 0;
  exchange->on_close([&] { ++told; });

  EXPECT_EQ(told, 1);
}

TEST(ServerVanishTest, IsNotToldAfterTheAnswer) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());
  client.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  Signal lost;
  const auto witness = std::make_shared<int>(1);
  exchange->on_close([&lost, witness] { lost.set(); });
  exchange->respond(text("done"));
  EXPECT_EQ(witness.use_count(), 1);  // the callback is not kept either
  EXPECT_EQ(client.read_response().body, "done");

  client.close();
  EXPECT_TRUE(eventually([&] { return server->stats().connections_open == 0; }));
  exchange->on_close([&] { lost.set(); });

  EXPECT_EQ(lost.count(), 0);
  EXPECT_EQ(server->stats().clients_vanished, 0U);
}

TEST(ServerVanishTest, AnAnswerThatIsReadyReachesAClientThatOnlyStoppedSending) {
  ServerOptions options;
  Desk desk;
  const auto server = serve(echo, options);
  RawSocket client(server->port());

  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  client.shutdown_send();

  EXPECT_EQ(client.read_response().body, "GET /|");
  EXPECT_TRUE(client.closed_by_server());
}

}  // namespace
}  // namespace conclave::http::testing
