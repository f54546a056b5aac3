// A set of logical processors, written as Linux writes them: "0-3,6".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::devices {

/// Linux is built for at most 8192 processors (NR_CPUS); a larger number is a typing error.
inline constexpr unsigned kCpuMax = 8191;

/// A value: processor numbers, each once, ascending.
class CpuSet {
 public:
  CpuSet() = default;
  /// Numbers up to kCpuMax, in any order; repeats count once.
  explicit CpuSet(std::vector<unsigned> cpus);

  /// "0-3,6". kInvalidArgument: empty text, anything but ranges that rise, numbers above kCpuMax.
  static base::Result<CpuSet> parse(std::string_view text);

  /// "0-3,6"; "" for the empty set.
  [[nodiscard]] std::string to_string() const;

  [[nodiscard]] bool empty() const { return cpus_.empty(); }
  [[nodiscard]] std::size_t size() const { return cpus_.size(); }
  [[nodiscard]] bool contains(unsigned cpu) const;
  [[nodiscard]] const std::vector<unsigned>& cpus() const { return cpus_; }

  /// What is here and not in `other`.
  [[nodiscard]] CpuSet without(const CpuSet& other) const;

  friend bool operator==(const CpuSet&, const CpuSet&) = default;

 private:
  std::vector<unsigned> cpus_;
};

}  // namespace conclave::devices
