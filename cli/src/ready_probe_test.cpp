#include "ready_probe.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "conclave/http/server.hpp"
#include "ports.hpp"

namespace conclave::cli {
namespace {

constexpr std::chrono::seconds kPatience{20};

// A server whose readiness the test chooses.
class ReadyProbeTest : public testing::Test {
 protected:
  void serve(std::uint16_t port) {
    auto server = http::Server::start({.port = port}, [this](auto exchange) {
      ++asked_;
      http::Response response;
      response.status = status_;
      const std::lock_guard lock(mutex_);
      response.body = body_;
      exchange->respond(std::move(response));
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }
  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(server_->port()) + "/ready";
  }
  void say(unsigned status, const std::string& body) {
    const std::lock_guard lock(mutex_);
    body_ = body;
    status_ = status;
  }
  static std::optional<ReadyProbe::State> next(ReadyProbe& probe) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      if (auto state = probe.changed()) return state;
      std::this_thread::yield();
    }
    return {};
  }

  std::mutex mutex_;  // guards body_
  std::string body_;
  std::atomic<unsigned> status_ = 200;
  std::atomic<int> asked_ = 0;
  std::unique_ptr<http::Server> server_;
};

TEST_F(ReadyProbeTest, TellsEachChangeOnce) {
  serve(0);
  say(503, R"({"ready":false,"reason":"loading"})");
  ReadyProbe probe(url());
  EXPECT_EQ(next(probe), (ReadyProbe::State{false, "loading"}));
  EXPECT_FALSE(probe.changed());
  say(200, R"({"ready":true})");
  EXPECT_EQ(next(probe), (ReadyProbe::State{true, ""}));
  say(503, R"({"error":{"message":"draining"}})");
  EXPECT_EQ(next(probe), (ReadyProbe::State{false, "draining"}));
}

TEST_F(ReadyProbeTest, AServerThatIsNotThereIsNotReady) {
  const auto ports = free_ports(1);
  ASSERT_TRUE(ports);
  ReadyProbe probe("http://127.0.0.1:" + std::to_string(ports->front()));
  EXPECT_FALSE(probe.changed());
  serve(ports->front());
  EXPECT_EQ(next(probe), (ReadyProbe::State{true, ""}));
  server_.reset();
  EXPECT_EQ(next(probe), (ReadyProbe::State{false, ""}));
}

TEST_F(ReadyProbeTest, TakesTextThatIsNoJson) {
  serve(0);
  say(404, "no such page");
  ReadyProbe probe(url());
  EXPECT_EQ(next(probe), (ReadyProbe::State{false, "no such page"}));
}

TEST_F(ReadyProbeTest, EndsAtOnceWhileItWaits) {
  serve(0);
  ReadyProbe probe(url());
  ASSERT_TRUE(next(probe));
  const int asked = asked_;
  probe.stop();
  EXPECT_LE(asked_ - asked, 1);
}

}  // namespace
}  // namespace conclave::cli
