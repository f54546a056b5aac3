// What was used and not yet acknowledged by the registry: summed by key, model and day, handed out
// in batches with ids of their own, kept until each is acknowledged. A batch that is sent twice
// counts once, since its id and its rows never change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "conclave/base/result.hpp"
#include "conclave/wire/ledger.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::gateway {

/// One thread. Bounded: beyond wire::kUsageRowsMax different keys, models and days what comes is
/// counted for nobody ("-"), in one row of the newest day among it, so that sums stay right.
class UsageBook {
 public:
  /// `prefix`: of the batches' ids, unique for this life of this gateway.
  explicit UsageBook(std::string prefix) : prefix_(std::move(prefix)) {}

  void add(const wire::UsageRow& row);

  /// The batch that is under way, or else a new one of all that waits; nothing if nothing does.
  /// Stays the same until acknowledged().
  [[nodiscard]] const wire::UsageBatch* batch();
  void acknowledged();
  /// Gives up the batch that is under way, which must be one, for the caller to say what is lost.
  wire::UsageBatch set_aside();

  [[nodiscard]] bool is_empty() const { return waiting_.empty() && !under_way_; }
  /// Rises with everything that changes what a file should hold.
  [[nodiscard]] std::uint64_t changes() const { return changes_; }

  /// Everything, in one file that replaces the former whole and outlives a loss of power.
  /// kUnavailable.
  base::Status save(const std::filesystem::path& file) const;
  /// What a former life saved: its batch first. A file that is not there is no error. kCorruptData:
  /// the file is not of our making, or damaged; it is FILE.damaged now. kUnavailable: it can
  /// neither be read nor moved, and must not be saved over.
  base::Status load(const std::filesystem::path& file);

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::int32_t>;

  [[nodiscard]] Key key_of(const wire::UsageRow& row);
  base::Status read(const std::string& text);

  const std::string prefix_;
  std::uint64_t batches_ = 0;
  std::uint64_t changes_ = 0;
  std::map<Key, wire::UsageRow> waiting_;
  std::optional<wire::UsageBatch> under_way_;
};

}  // namespace conclave::gateway
