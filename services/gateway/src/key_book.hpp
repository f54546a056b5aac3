// Whose key a client shows, as the registry said a short time ago. Decides only when to ask again;
// the asking is somebody else's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
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

/// One thread. Bounded: kKeysMax keys and kGuessesMax secrets that are nobody's, so that guessing
/// pushes out no key; the ones asked for longest ago go first.
class KeyBook {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using WallTime = std::chrono::system_clock::time_point;

  /// Keys that are in use at once; some 200 bytes each.
  static constexpr std::size_t kKeysMax = 10'000;
  static constexpr std::size_t kGuessesMax = 1'000;
  /// A key that was revoked opens doors for so long at most, where nobody says that it was.
  static constexpr std::chrono::seconds kFresh{10};
  /// While the registry is away, reads go on with what it said last, for so long.
  static constexpr std::chrono::seconds kUsable{3600};

  void keep(const wire::Sha256& sum, wire::KeyAnswer answer, TimePoint now);

  /// What was said so far may not be true any more: fresh() forgets it, usable() does not.
  void doubt() { ++certainty_; }

  /// What was said at most kFresh ago and not doubted since, and has not expired by `wall`.
  [[nodiscard]] std::optional<wire::KeyAnswer> fresh(const wire::Sha256& sum, TimePoint now,
                                                     WallTime wall) const;
  /// What was said at most kUsable ago and not doubted since, and has not expired by `wall`.
  [[nodiscard]] std::optional<wire::KeyAnswer> certain(const wire::Sha256& sum, TimePoint now,
                                                       WallTime wall) const;
  /// What was said at most kUsable ago, and has not expired: for when nobody can be asked.
  [[nodiscard]] std::optional<wire::KeyAnswer> usable(const wire::Sha256& sum, TimePoint now,
                                                      WallTime wall) const {
    return find(sum, now, wall, kUsable);
  }

 private:
  struct Entry {
    wire::KeyAnswer answer;
    TimePoint said{};
    std::uint64_t certainty = 0;  // when it was said
    std::uint64_t number = 0;     // of all that a shelf kept, in their order
  };
  class Shelf {
   public:
    explicit Shelf(std::size_t entries_max) : entries_max_(entries_max) {}
    void keep(const wire::Sha256& sum, wire::KeyAnswer answer, TimePoint now,
              std::uint64_t certainty);
    void forget(const wire::Sha256& sum);
    [[nodiscard]] const Entry* find(const wire::Sha256& sum) const;

   private:
    std::size_t entries_max_;
    std::map<wire::Sha256, Entry> entries_;
    std::map<std::uint64_t, wire::Sha256> by_age_;
    std::uint64_t kept_ = 0;
  };
  [[nodiscard]] const Entry* entry(const wire::Sha256& sum) const;
  [[nodiscard]] bool is_doubted(const wire::Sha256& sum) const;
  [[nodiscard]] std::optional<wire::KeyAnswer> find(const wire::Sha256& sum, TimePoint now,
                                                    WallTime wall, std::chrono::seconds age) const;

  Shelf keys_{kKeysMax};
  Shelf guesses_{kGuessesMax};
  std::uint64_t certainty_ = 0;  // doubts so far
};

}  // namespace conclave::gateway
