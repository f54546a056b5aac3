// The counts of tenants, and who is let in by them. Decides as Redis' script does
// (redis_scripts.cpp); the contract test holds the two together. No clock, no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "conclave/quota/quota.hpp"

namespace conclave::quota {

/// The requests of one tenant that are open.
struct Leases {
  std::string tenant;
  std::vector<std::string> names;
};

/// One thread. Bounded: kTenantsMax tenants; a tenant's leases by its limit of open requests.
class QuotaBook {
 public:
  /// Tenants that are active at once, some hundred bytes each.
  static constexpr std::size_t kTenantsMax = 10'000;

  Counts take(const Ask& ask, std::int64_t now_ms);
  void settle(const Settlement& settlement);
  /// Another one counts for all, and this is what it said: to go on from there if it goes away.
  void adopt(const Ask& ask, const Counts& counts);

  /// Of the tenants whose open requests are limited.
  [[nodiscard]] std::vector<Leases> leases() const;
  [[nodiscard]] std::size_t tenants() const { return tenants_.size(); }

 private:
  struct Tenant {
    Counts counts;
    std::set<std::string> leases;
    std::uint64_t touched = 0;  // by calls of tenant()
  };

  Tenant& tenant(const std::string& name);

  std::map<std::string, Tenant> tenants_;
  std::uint64_t calls_ = 0;
};

}  // namespace conclave::quota
