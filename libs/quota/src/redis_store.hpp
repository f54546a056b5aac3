// A store's calls as scripts that Redis runs, and their replies as counts.
#pragma once

#include <span>

#include "conclave/quota/redis.hpp"
#include "quota_book.hpp"
#include "redis_link.hpp"

namespace conclave::quota {

/// Any thread. take() fails while Redis does not answer, and so does its shared count.
class RedisStore final : public Store {
 public:
  /// Names of one command that renews.
  static constexpr std::size_t kRenewedMax = 1024;

  explicit RedisStore(RedisOptions options);

  void take(const Ask& ask, Then then) override;
  void settle(const Settlement& settlement) override;
  /// `lost` is called if it cannot have arrived.
  void settle(const Settlement& settlement, std::function<void()> lost);
  /// These requests are still open.
  void renew(std::span<const Leases> leases);
  [[nodiscard]] bool up() const { return link_.up(); }

 private:
  const std::string lease_ms_;
  RedisLink link_;
};

}  // namespace conclave::quota
