// Whose key a client shows, as the registry said a short time ago. Decides only when to ask again;
// the asking is somebody else's.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "conclave/wire/ledger.hpp"

namespace conclave::gateway {

/// The token of `Authorization: Bearer ..`; empty: there is none. The scheme is of any case.
std::string_view bearer_token(std::string_view authorization);

/// What the registry knows a secret by. The secret itself is kept nowhere.
wire::Sha256 secret_sum(std::string_view secret);

/// One thread. Bounded: kKeysMax sums, the ones asked for longest ago go first.
class KeyBook {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Keys that are in use at once; some 200 bytes each.
  static constexpr std::size_t kKeysMax = 10'000;
  /// A key that was revoked opens doors for so long at most.
  static constexpr std::chrono::seconds kFresh{10};
  /// While the registry is away, reads go on with what it said last, for so long.
  static constexpr std::chrono::seconds kUsable{3600};

  void keep(const wire::Sha256& sum, wire::KeyAnswer answer, TimePoint now);

  /// What was said at most kFresh ago.
  [[nodiscard]] std::optional<wire::KeyAnswer> fresh(const wire::Sha256& sum, TimePoint now) const {
    return find(sum, now, kFresh);
  }
  /// What was said at most kUsable ago: for when nobody can be asked.
  [[nodiscard]] std::optional<wire::KeyAnswer> usable(const wire::Sha256& sum,
                                                      TimePoint now) const {
    return find(sum, now, kUsable);
  }

 private:
  struct Entry {
    wire::KeyAnswer answer;
    TimePoint said{};
  };
  [[nodiscard]] std::optional<wire::KeyAnswer> find(const wire::Sha256& sum, TimePoint now,
                                                    std::chrono::seconds age) const;

  std::map<wire::Sha256, Entry> keys_;
  std::map<TimePoint, wire::Sha256> by_age_;
};

}  // namespace conclave::gateway
