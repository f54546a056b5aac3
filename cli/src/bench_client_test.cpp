#include "bench_client.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "conclave/http/server.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;

const std::string kToken = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
const std::string kEnd = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";

// A server that answers as the test says, and clients of it, over both transports.
class LoadClientTest : public testing::TestWithParam<bool> {
 protected:
  void serve(http::Handler handler) {
    auto server = http::Server::start({}, [this, handler = std::move(handler)](auto exchange) {
      {
        const std::lock_guard lock(mutex_);
        bodies_.insert(exchange->request().body);
        remotes_.insert(exchange->request().remote);
      }
      handler(std::move(exchange));
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    open("http://127.0.0.1:" + std::to_string(server_->port()) + "/v1/completions");
  }
  void open(const std::string& url, bool stream = true, int timeout_ms = 0) {
    options_ = {.endpoint = {.url = url,
                             .headers = {{"X-Test", "yes"}},
                             .timeout = std::chrono::milliseconds(timeout_ms)},
                .stream = stream,
                .prompt_tokens = 3,
                .always_curl = GetParam()};
  }
  base::Result<double> run(const LoadPlan& plan, std::stop_token stop = {}) {
    LoadClient client(options_, plan, tally_);
    return client.run([](std::uint64_t number) { return std::to_string(number); }, stop,
                      [this](std::uint64_t ended) { ended_ = ended; });
  }
  // Ends the server's thread: what its handler wrote may be read from here on.
  void end_server() { server_.reset(); }
  [[nodiscard]] LoadReport report() const { return tally_.report(1.0); }

  static void stream(const std::shared_ptr<http::Exchange>& exchange, const std::string& text) {
    exchange->begin({.content_type = "text/event-stream"});
    exchange->write(text);
    exchange->end();
  }

  std::mutex mutex_;  // guards the sets
  std::set<std::string> bodies_;
  std::set<std::string> remotes_;
  std::unique_ptr<http::Server> server_;
  LoadClientOptions options_;
  LoadTally tally_{{}};
  std::uint64_t ended_ = 0;
};

TEST_P(LoadClientTest, SendsEveryRequestOnceOverConnectionsThatStay) {
  serve([](const auto& exchange) { stream(exchange, kToken + kToken + kEnd); });
  ASSERT_TRUE(run({.connections = 4, .requests = 50}));
  end_server();
  EXPECT_EQ(report().completed, 50u);
  EXPECT_EQ(report().output_tokens, 100u);
  EXPECT_EQ(report().prompt_tokens, 150u);
  EXPECT_EQ(report().failed, 0u);
  EXPECT_EQ(ended_, 50u);
  EXPECT_EQ(bodies_.size(), 50u);
  EXPECT_LE(remotes_.size(), 4u);
}

TEST_P(LoadClientTest, KeepsAsManyRequestsUnderWayAsItIsTold) {
  // Answers none before three are there: fewer would wait for ever, more would be seen.
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  std::size_t most = 0;
  serve([&](auto exchange) {
    waiting.push_back(std::move(exchange));
    most = std::max(most, waiting.size());
    if (waiting.size() < 3) return;
    for (const auto& each : waiting) stream(each, kToken + kEnd);
    waiting.clear();
  });
  ASSERT_TRUE(run({.connections = 3, .requests = 30}));
  end_server();
  EXPECT_EQ(report().completed, 30u);
  EXPECT_EQ(most, 3u);
}

TEST_P(LoadClientTest, ArrivalsDoNotWaitForAnswers) {
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  serve([&](auto exchange) {
    waiting.push_back(std::move(exchange));
    if (waiting.size() < 20) return;
    for (const auto& each : waiting) stream(each, kToken + kEnd);
  });
  ASSERT_TRUE(run({.connections = 100, .rate = 2000.0, .requests = 20, .seed = 1}));
  end_server();
  EXPECT_EQ(report().completed, 20u);
}

TEST_P(LoadClientTest, TellsHowRequestsFail) {
  std::atomic<int> number = 0;
  serve([&](const std::shared_ptr<http::Exchange>& exchange) {
    switch (number++) {
      case 0:
        exchange->respond({.status = 429, .body = R"({"error":{"message":"slow down"}})"});
        return;
      case 1:
        stream(exchange, kToken);
        return;
      case 2:
        stream(exchange, "data: {\"error\":{\"message\":\"no worker\"}}\n\n");
        return;
      case 3:
        exchange->begin({.content_type = "text/event-stream"});
        exchange->write(kToken);
        return;  // dies within the stream: the connection is cut
      default:
        stream(exchange, kToken + kEnd);
    }
  });
  ASSERT_TRUE(run({.connections = 1, .requests = 6}));
  end_server();
  const LoadReport found = report();
  EXPECT_EQ(found.completed, 2u);
  EXPECT_EQ(found.failed, 4u);
  ASSERT_EQ(found.errors.count("status 429"), 1u);
  EXPECT_EQ(found.errors.at("status 429").first, "slow down (status 429)");
  EXPECT_EQ(found.errors.count("broken answer"), 1u);
  ASSERT_EQ(found.errors.count("error in the stream"), 1u);
  EXPECT_EQ(found.errors.at("error in the stream").first, "no worker");
  EXPECT_EQ(found.errors.count("connection lost"), 1u);
}

TEST_P(LoadClientTest, ReadsAnswersThatAreNotStreamed) {
  serve([](const auto& exchange) {
    exchange->respond({.body = R"({"choices":[{}],"usage":{"completion_tokens":4}})"});
  });
  open("http://127.0.0.1:" + std::to_string(server_->port()) + "/", false);
  ASSERT_TRUE(run({.connections = 2, .requests = 4}));
  EXPECT_EQ(report().completed, 4u);
  EXPECT_EQ(report().output_tokens, 16u);
}

TEST_P(LoadClientTest, AnAnswerThatDoesNotComeIsATimeout) {
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  serve([&](auto exchange) { waiting.push_back(std::move(exchange)); });
  open("http://127.0.0.1:" + std::to_string(server_->port()) + "/", true, 50);
  ASSERT_TRUE(run({.connections = 1, .requests = 1}));
  end_server();
  EXPECT_EQ(report().errors.count("timeout"), 1u);
}

TEST_P(LoadClientTest, AStopGivesUpWhatIsUnderWay) {
  std::stop_source stop;
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  serve([&](auto exchange) {
    waiting.push_back(std::move(exchange));
    if (waiting.size() == 2) stop.request_stop();
  });
  ASSERT_TRUE(run({.connections = 2, .requests = 10}, stop.get_token()));
  end_server();
  EXPECT_EQ(report().unfinished, 2u);
  EXPECT_EQ(report().completed, 0u);
}

TEST_P(LoadClientTest, AServerThatIsGoneEndsTheRun) {
  serve([](const auto& exchange) { stream(exchange, kToken + kEnd); });
  end_server();
  const auto ran = run({.connections = 4, .duration_s = 1000.0});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, ErrorCode::kUnavailable);
  EXPECT_GE(report().errors.at("no connection").count, 100u);
}

TEST_P(LoadClientTest, ConnectionsThatTheServerClosesAreMadeAgain) {
  // It ends a connection as soon as that is idle, often just as the next request comes.
  auto server = http::Server::start({.idle_timeout = std::chrono::milliseconds(1)},
                                    [](const auto& exchange) { stream(exchange, kToken + kEnd); });
  ASSERT_TRUE(server) << server.error().message;
  open("http://127.0.0.1:" + std::to_string((*server)->port()) + "/");
  ASSERT_TRUE(run({.connections = 4, .rate = 500.0, .requests = 200, .seed = 1}));
  EXPECT_EQ(report().completed, 200u);
}

// As llama-server does: the end of the connection comes with the end of the answer, unannounced,
// and who writes to it all the same hears nothing.
TEST_P(LoadClientTest, ConnectionsThatEndWithTheirAnswerAreNotUsedAgain) {
  constexpr int kRequests = 3;
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(at);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), size), 0);
  ASSERT_EQ(::listen(listener, kRequests), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size), 0);
  const std::string text = kToken + kEnd;
  const std::string answer =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: " +
      std::to_string(text.size()) + "\r\n\r\n" + text;
  std::vector<int> connections;
  std::thread server([&] {
    char room[4096];
    while (static_cast<int>(connections.size()) < kRequests) {
      const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      connections.push_back(connection);
      const auto cork = [&](int on) {  // the answer and its end are one segment
        ::setsockopt(connection, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
      };
      cork(1);
      if (::recv(connection, room, sizeof room, 0) > 0) {
        (void)::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
      ::shutdown(connection, SHUT_WR);
      cork(0);
    }
  });
  open("http://127.0.0.1:" + std::to_string(ntohs(at.sin_port)) + "/", true, 20'000);

  EXPECT_TRUE(run({.connections = 1, .requests = kRequests}));

  ::shutdown(listener, SHUT_RDWR);
  server.join();
  ::close(listener);
  for (const int connection : connections) ::close(connection);
  EXPECT_EQ(report().completed, static_cast<std::uint64_t>(kRequests));
}

TEST_P(LoadClientTest, WhatIsNoUrlIsRefused) {
  open("http://no host/");
  EXPECT_TRUE(!run({.connections = 1, .requests = 1}) || report().failed == 1);
  EXPECT_EQ(report().completed, 0u);
}

INSTANTIATE_TEST_SUITE_P(Transports, LoadClientTest, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "Curl" : "Sockets"; });

}  // namespace
}  // namespace conclave::cli
