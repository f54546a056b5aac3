// Counting in Redis, for all gateways together.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/quota/store.hpp"

namespace conclave::quota {

struct RedisAddress {
  std::string host;
  std::uint16_t port = 6379;
  std::string user;      // empty: the default one
  std::string password;  // empty: none is asked for
  std::uint32_t database = 0;

  friend bool operator==(const RedisAddress&, const RedisAddress&) = default;
};

/// redis://[[user]:password@]host[:port][/database], percent-encoded. kInvalidArgument, without the
/// password: what is wrong. There is no rediss://: put Redis on a network of its own.
base::Result<RedisAddress> parse_redis_url(std::string_view url);

struct RedisOptions {
  RedisAddress address;
  /// How long a request waits for an answer; the connection is given up when one did.
  std::chrono::milliseconds timeout{50};
  /// A request whose gateway says no more of it is over after so long.
  std::chrono::milliseconds lease{30'000};
  /// Redis answers again, or does not any more, and why. Called on a thread of the store.
  std::function<void(bool up, const std::string& why)> changed;
};

/// Counts in Redis while it answers and in this process while it does not, beginning with what
/// Redis said last; take() never fails. It comes back to Redis by itself. What was let in meanwhile
/// counts in Redis as far as it is Reported.
///
/// One thread. Bounded: 8192 calls that wait for Redis, each for `timeout`; 8192 settlements for
/// the time when it is back, of which the oldest are forgotten first.
class SharedStore : public Store {
 public:
  /// True: Redis counts.
  [[nodiscard]] virtual bool up() const = 0;
  /// Requests that this process counted by itself so far.
  [[nodiscard]] virtual std::uint64_t alone() const = 0;
};

std::shared_ptr<SharedStore> shared_store(RedisOptions options, WallClockMs clock);

}  // namespace conclave::quota
