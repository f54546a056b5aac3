// For tests: a Redis server of its own, Debian's, on loopback at a port that was free, with nothing
// on disk. It can be taken away and given back, and made to hang.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "conclave/quota/redis.hpp"

namespace conclave::quota::testing {

/// Longer than anything that works takes, on a machine as loaded as may be.
inline constexpr std::chrono::seconds kPatience{30};

/// A free port of loopback, as far as one can know.
std::uint16_t free_port();

/// Gone with the object, or with the thread that made it. One thread at a time.
class TestRedis {
 public:
  explicit TestRedis(std::string password = {});
  ~TestRedis();
  TestRedis(const TestRedis&) = delete;
  TestRedis& operator=(const TestRedis&) = delete;

  [[nodiscard]] RedisAddress address() const {
    return {.host = "127.0.0.1", .port = port_, .user = {}, .password = password_, .database = 0};
  }
  /// At the same port, with nothing in it.
  void start();
  void kill();
  void hang();
  void go_on();
  /// A command without a password, which is answered with +OK.
  void tell(const std::string& command) const;

 private:
  const std::string password_;
  std::uint16_t port_;
  pid_t server_ = 0;
};

/// One for all tests of a program, each of which takes tenants of its own.
TestRedis& shared_redis();

/// Whether a store's Redis answers, for a thread that waits for it.
class Watch {
 public:
  std::function<void(bool, const std::string&)> listener();
  /// False: nothing came within kPatience.
  bool wait(bool up);
  [[nodiscard]] std::string why() const;

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_known = false;
    bool up = false;
    std::string why;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

/// What take() says, waited for.
base::Result<Counts> taken(Store& store, const Ask& ask);

}  // namespace conclave::quota::testing
