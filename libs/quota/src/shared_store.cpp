#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <utility>

#include "conclave/quota/redis.hpp"
#include "redis_store.hpp"

namespace conclave::quota {
namespace {

constexpr std::size_t kUnsettledMax = 8192;

class RedisOrAlone final : public SharedStore {
 public:
  RedisOrAlone(RedisOptions options, WallClockMs clock)
      : clock_(std::move(clock)),
        renew_every_ms_(options.lease.count() / 4),
        redis_(std::move(options)) {}

  void take(const Ask& ask, Then then) override {
    redis_.take(ask, [this, ask, then = std::move(then)](base::Result<Counts> counts) {
      if (!counts) {
        then(count_alone(ask));
        return;
      }
      {
        const std::lock_guard lock(mutex_);
        book_.adopt(ask, *counts);
      }
      then(std::move(counts));
    });
  }

  void settle(const Settlement& settlement) override {
    {
      const std::lock_guard lock(mutex_);
      book_.settle(settlement);
    }
    Settlement shared = settlement;
    // Redis has not counted what was asked for; if its windows are still those, it counts what was
    // used.
    if (shared.alone) shared.tokens = static_cast<std::int64_t>(std::min(shared.used, kTokensMax));
    send(shared);
  }

  void tick() override {
    if (!redis_.up()) return;
    std::deque<Settlement> unsettled;
    std::vector<Leases> leases;
    {
      const std::lock_guard lock(mutex_);
      unsettled.swap(unsettled_);
      const std::int64_t now = clock_();
      if (now - renewed_ms_ >= renew_every_ms_ || now < renewed_ms_) {
        leases = book_.leases();
        renewed_ms_ = now;
      }
    }
    for (const Settlement& settlement : unsettled) send(settlement);
    redis_.renew(leases);
  }

  [[nodiscard]] bool up() const override { return redis_.up(); }
  [[nodiscard]] std::uint64_t alone() const override { return alone_; }

 private:
  Counts count_alone(const Ask& ask) {
    ++alone_;
    const std::lock_guard lock(mutex_);
    Counts counts = book_.take(ask, clock_());
    counts.alone = true;
    return counts;
  }

  void send(const Settlement& settlement) {
    redis_.settle(settlement, [this, settlement] {
      const std::lock_guard lock(mutex_);
      unsettled_.push_back(settlement);
      if (unsettled_.size() > kUnsettledMax) unsettled_.pop_front();
    });
  }

  const WallClockMs clock_;
  const std::int64_t renew_every_ms_;
  std::atomic<std::uint64_t> alone_{0};
  std::mutex mutex_;  // guards the next three
  QuotaBook book_;
  std::deque<Settlement> unsettled_;
  std::int64_t renewed_ms_ = 0;
  RedisStore redis_;  // last: its thread uses the rest
};

}  // namespace

std::shared_ptr<SharedStore> shared_store(RedisOptions options, WallClockMs clock) {
  return std::make_shared<RedisOrAlone>(std::move(options), std::move(clock));
}

}  // namespace conclave::quota
