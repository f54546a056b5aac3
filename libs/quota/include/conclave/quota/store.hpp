// Where tenants' use is counted: in this process, or in Redis for all gateways together.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "conclave/base/result.hpp"
#include "conclave/quota/quota.hpp"

namespace conclave::quota {

/// Milliseconds since 1970, UTC. Any thread.
using WallClockMs = std::function<std::int64_t()>;

/// Any thread. Nothing blocks.
class Store {
 public:
  using Then = std::function<void(base::Result<Counts>)>;

  virtual ~Store() = default;

  /// Counts the request if no limit is against it, all of it or nothing. `then` is called once, on
  /// any thread, perhaps before this returns; it must not block. kUnavailable, kDeadlineExceeded,
  /// kCorruptData, kInternal: whoever counts could not.
  virtual void take(const Ask& ask, Then then) = 0;
  /// Once for every request that was let in.
  virtual void settle(const Settlement& settlement) = 0;
  /// To be called about once a second.
  virtual void tick() {}
};

/// Counts in this process and forgets at its end, but for what is Reported. take() never fails.
/// Bounded: some 10,000 tenants, those that were quiet for longest are forgotten first.
std::shared_ptr<Store> memory_store(WallClockMs clock);

}  // namespace conclave::quota
