// Servers that are no Redis, or one that went wrong: every request is let in or refused by this
// process's own count, in bounded time and memory.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "testing_redis.hpp"

namespace conclave::quota {
namespace {

using quota::testing::taken;
using quota::testing::Watch;
using std::chrono::milliseconds;

/// Says PONG to the first that it hears on each connection, and then `reply` to everything.
class Liar {
 public:
  explicit Liar(std::string reply) : reply_(std::move(reply)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(at);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Liar() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  static bool say(int client, std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(client, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  void run() {
    while (true) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      char buffer[4096];
      bool is_first = true;
      while (::recv(client, buffer, sizeof(buffer), 0) > 0) {
        if (!say(client, std::exchange(is_first, false) ? "+PONG\r\n" : reply_)) break;
      }
      ::close(client);
    }
  }

  const std::string reply_;
  int listener_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

TEST(RedisHostileTest, WhateverItSaysRequestsAreCounted) {
  const std::string many = "*10\r\n:0\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n";
  const std::string replies[] = {
      "",                              // nothing
      "-OOM command not allowed\r\n",  // an error
      "+OK\r\n",                       // no numbers
      ":7\r\n",                        // one
      "$3\r\nabc\r\n",                 // text
      "*-1\r\n",                       // a null list
      "*0\r\n",                        // an empty one
      "*2\r\n:1\r\n$1\r\nx\r\n",       // a mixed one
      "*2147483647\r\n",               // 16 GiB of pointers
      "$536870912\r\n",                // text that never comes
      std::string(1 << 20, '+'),       // a line without an end
      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",  // too deep
      "HTTP/1.1 400 Bad Request\r\n\r\n",                                    // another protocol
      many + ":-1\r\n",                                                      // a negative count
      many + ":9223372036854775807\r\n",                                     // one that overflows
      "*10\r\n:9" + many.substr(8) + ":1\r\n",                               // an unknown refusal
      many + ":0\r\n" + many + ":0\r\n",  // two answers for one question
  };
  for (const std::string& reply : replies) {
    SCOPED_TRACE(reply.substr(0, 40));
    Liar liar(reply);
    Watch watch;
    const auto store = shared_store({{.host = "127.0.0.1", .port = liar.port()},
                                     milliseconds(50),
                                     milliseconds(30'000),
                                     watch.listener()},
                                    [] { return 1'760'000'000'000; });
    ASSERT_TRUE(watch.wait(true));
    const Ask ask{"acme", "a", {.requests_per_minute = 1'000}, {}, 10};

    for (std::uint64_t i = 0; i < 20; ++i) {
      const auto counts = taken(*store, ask);
      ASSERT_TRUE(counts);
      ASSERT_EQ(counts->refusal, Refusal::kNone);
      store->settle({"acme", "a", counts->window_ms, counts->day, counts->month, 0});
      store->tick();
    }
    EXPECT_GT(store->alone(), 0u);
  }
}

}  // namespace
}  // namespace conclave::quota
