#include "conclave/http/server.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "testing_server.hpp"

namespace conclave::http::testing {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(ServerTest, ListensOnEveryKindOfAddress) {
  ServerOptions v6;
  v6.address = "::1";
  ServerOptions all_v4;
  all_v4.address = "0.0.0.0";
  ServerOptions all;
  all.address = "::";
  Desk desk;
  const auto on_v6 = serve(desk.handler(), v6);
  const auto on_all_v4 = serve(echo, all_v4);
  const auto on_all = serve(desk.handler(), all);

  RawSocket to_v6(on_v6->port(), 0, true);
  to_v6.send(get("/"));
  auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  EXPECT_TRUE(exchange->request().remote.starts_with("[::1]:")) << exchange->request().remote;

  RawSocket to_all_v4(on_all_v4->port());
  to_all_v4.send(get("/x"));
  EXPECT_EQ(to_all_v4.read_response().body, "GET /x|");

  RawSocket v4_to_all(on_all->port());
  v4_to_all.send(get("/"));
  exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  EXPECT_TRUE(exchange->request().remote.starts_with("127.0.0.1:")) << exchange->request().remote;
}

TEST(ServerTest, RefusesToStartWithoutAPlaceToListen) {
  const auto first = serve(echo);
  ServerOptions same_port;
  same_port.port = first->port();
  ServerOptions foreign;
  foreign.address = "192.0.2.1";
  ServerOptions name;
  name.address = "localhost";

  EXPECT_EQ(Server::start(same_port, echo).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(Server::start(foreign, echo).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(Server::start(name, echo).error().code, ErrorCode::kInvalidArgument);
}

TEST(ServerTest, RefusesLimitsThatCannotWork) {
  const auto code = [](auto change) {
    ServerOptions options;
    change(options);
    const auto server = Server::start(options, echo);
    return server ? ErrorCode{} : server.error().code;
  };

  EXPECT_EQ(code([](ServerOptions& o) { o.threads = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](ServerOptions& o) { o.connections_max = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](ServerOptions& o) { o.header_bytes_max = 10; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](ServerOptions& o) { o.idle_timeout = milliseconds{0}; }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](ServerOptions&) {}), ErrorCode{});
}

TEST(ServerTest, TakesThePortAgainAtOnce) {
  std::uint16_t port = 0;
  {
    const auto server = serve(echo);
    port = server->port();
    RawSocket client(port);
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client.read_to_end();  // the server closes first, which leaves its side waiting
  }
  ServerOptions options;
  options.port = port;

  EXPECT_EQ(serve(echo, options)->port(), port);
}

TEST(ServerTest, ServesManyConnectionsAtOnce) {
  ServerOptions options;
  options.threads = 2;
  const auto server = serve(echo, options);
  constexpr int kClients = 64;
  constexpr int kRequests = 20;
  std::vector<std::unique_ptr<RawSocket>> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(std::make_unique<RawSocket>(server->port()));

  for (int round = 0; round < kRequests; ++round) {
    for (int i = 0; i < kClients; ++i) {
      ASSERT_TRUE(clients[static_cast<std::size_t>(i)]->send(get("/" + std::to_string(i))));
    }
    for (int i = 0; i < kClients; ++i) {
      ASSERT_EQ(clients[static_cast<std::size_t>(i)]->read_response().body,
                "GET /" + std::to_string(i) + "|");
    }
  }

  const ServerStats stats = server->stats();
  EXPECT_EQ(stats.connections_open, 64U);
  EXPECT_EQ(stats.connections_accepted, 64U);
  EXPECT_EQ(stats.requests, 64U * 20U);
  EXPECT_GT(stats.bytes_in, 64U * 20U * get("/").size());
  EXPECT_GT(stats.bytes_out, 64U * 20U * 10U);
}

TEST(ServerTest, AnswersFromManyThreads) {
  ServerOptions options;
  options.threads = 2;
  Desk desk;
  const auto server = serve(desk.handler(), options);
  constexpr int kClients = 16;
  std::vector<std::thread> answerers;
  std::atomic<int> left{kClients};
  for (int i = 0; i < 4; ++i) {
    answerers.emplace_back([&] {
      while (left.fetch_sub(1) > 0) {
        const auto exchange = desk.next();
        exchange->begin(event_stream());
        for (int chunk = 0; chunk < 100; ++chunk) {
          EXPECT_TRUE(exchange->write(std::to_string(chunk) + ";"));
        }
        exchange->end();
      }
    });
  }
  std::string expected;
  for (int chunk = 0; chunk < 100; ++chunk) expected += std::to_string(chunk) + ";";

  std::vector<std::unique_ptr<RawSocket>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawSocket>(server->port()));
    clients.back()->send(get("/"));
  }
  for (const auto& client : clients) EXPECT_EQ(client->read_response().body, expected);
  for (auto& answerer : answerers) answerer.join();
  EXPECT_TRUE(eventually([&] { return server->stats().exchanges_running == 0; }));
}

TEST(ServerTest, TurnsConnectionsBeyondTheLimitAway) {
  ServerOptions options;
  options.connections_max = 2;
  options.retry_after = std::chrono::seconds{7};
  const auto server = serve(echo, options);
  auto first = std::make_unique<RawSocket>(server->port());
  RawSocket second(server->port());
  first->send(get("/"));
  second.send(get("/"));
  EXPECT_EQ(first->read_response().status, 200U);
  EXPECT_EQ(second.read_response().status, 200U);

  RawSocket third(server->port());
  third.send(get("/"));
  const RawResponse refusal = third.read_response();
  EXPECT_EQ(refusal.status, 503U);
  EXPECT_EQ(refusal.field("Retry-After"), "7");
  EXPECT_EQ(refusal.field("Connection"), "close");
  EXPECT_TRUE(third.closed_by_server());
  EXPECT_EQ(server->stats().connections_refused, 1U);
  EXPECT_EQ(server->stats().connections_open, 2U);

  first.reset();
  EXPECT_TRUE(eventually([&] { return server->stats().connections_open == 1; }));
  RawSocket fourth(server->port());
  fourth.send(get("/"));
  EXPECT_EQ(fourth.read_response().status, 200U);
}

TEST(ServerTest, SurvivesAFloodBeyondTheLimit) {
  ServerOptions options;
  options.connections_max = 1;
  const auto server = serve(echo, options);
  RawSocket served(server->port());
  served.send(get("/"));
  ASSERT_EQ(served.read_response().status, 200U);

  std::vector<std::unique_ptr<RawSocket>> flood;
  for (int i = 0; i < 200; ++i) flood.push_back(std::make_unique<RawSocket>(server->port()));
  EXPECT_TRUE(eventually([&] { return server->stats().connections_refused == 200; }));

  served.send(get("/still"));
  EXPECT_EQ(served.read_response().body, "GET /still|");
}

TEST(ServerTest, RecoversWhenTheSystemHadNoDescriptorLeft) {
  const auto server = serve(echo);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int lowest = ::dup(STDERR_FILENO);
  ::close(lowest);
  rlimit one_left = limit;
  one_left.rlim_cur = static_cast<rlim_t>(lowest) + 1;

  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &one_left), 0);
  RawSocket client(server->port());  // takes the one
  const auto later = steady_clock::now() + milliseconds{20};
  while (steady_clock::now() < later) std::this_thread::yield();
  EXPECT_EQ(server->stats().connections_accepted, 0U);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  client.send(get("/"));

  EXPECT_EQ(client.read_response().status, 200U);
}

TEST(ServerTest, DrainsWithoutBreakingAnswers) {
  Desk desk;
  auto server = serve(desk.handler());
  const std::uint16_t port = server->port();
  RawSocket idle(port);
  RawSocket kept(port);
  RawSocket streaming(port);
  RawSocket waiting(port);
  kept.send(get("/"));
  desk.next()->respond(text("x"));
  EXPECT_EQ(kept.read_response().status, 200U);
  streaming.send(get("/stream"));
  const auto stream = desk.next();
  ASSERT_NE(stream, nullptr);
  stream->begin(event_stream());
  EXPECT_TRUE(stream->write("data: 1\n\n"));
  streaming.read_through("data: 1\n\n");
  waiting.send(get("/wait"));
  auto late = desk.next();
  ASSERT_NE(late, nullptr);

  server->drain();

  EXPECT_TRUE(idle.closed_by_server());
  EXPECT_TRUE(kept.closed_by_server());
  EXPECT_FALSE(RawSocket(port).connected());
  EXPECT_FALSE(server->wait_idle(steady_clock::now()));
  EXPECT_TRUE(stream->write("data: 2\n\n"));
  stream->end();
  late->respond(text("late"));
  EXPECT_TRUE(server->wait_idle(steady_clock::now() + kPatience));
  EXPECT_TRUE(streaming.read_to_end().ends_with("data: 2\n\n\r\n0\r\n\r\n"));
  const RawResponse answer = waiting.read_response();
  EXPECT_EQ(answer.body, "late");
  EXPECT_EQ(answer.field("Connection"), "close");
  EXPECT_TRUE(waiting.closed_by_server());
  EXPECT_TRUE(eventually([&] { return server->stats().connections_open == 0; }));
}

TEST(ServerTest, IsNotIdleWhileARequestIsRead) {
  const auto server = serve(echo);
  RawSocket client(server->port());
  EXPECT_TRUE(server->wait_idle(steady_clock::now()));

  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nh");
  EXPECT_TRUE(eventually([&] { return !server->wait_idle(steady_clock::now()); }));
  server->drain();
  client.send("i");

  EXPECT_EQ(client.read_response().body, "POST /|hi");
  EXPECT_TRUE(server->wait_idle(steady_clock::now() + kPatience));
}

TEST(ServerTest, StopsWithConnectionsInEveryState) {
  Desk desk;
  Signal lost;
  auto server = serve(desk.handler());
  RawSocket idle(server->port());
  RawSocket header(server->port());
  header.send("GET / HT");
  RawSocket body(server->port());
  body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx");
  RawSocket waiting(server->port());
  waiting.send(get("/"));
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  exchange->on_close([&] { lost.set(); });
  RawSocket streaming(server->port());
  streaming.send(get("/"));
  const auto stream = desk.next();
  ASSERT_NE(stream, nullptr);
  stream->begin(event_stream());
  EXPECT_TRUE(stream->write("x"));

  server.reset();

  EXPECT_EQ(lost.count(), 1);
  for (RawSocket* client : {&idle, &header, &body, &waiting, &streaming}) {
    EXPECT_TRUE(client->closed_by_server());
  }
  // The handler's side outlives the server.
  exchange->respond(text("too late"));
  EXPECT_FALSE(stream->write("too late"));
  stream->end();
  Signal told;
  stream->on_close([&] { told.set(); });
  EXPECT_EQ(told.count(), 1);
}

}  // namespace
}  // namespace conclave::http::testing
