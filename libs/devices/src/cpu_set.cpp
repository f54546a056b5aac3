#include "conclave/devices/cpu_set.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/base/text.hpp"

namespace conclave::devices {
namespace {

base::Result<unsigned> parse_cpu(std::string_view text) {
  unsigned cpu = 0;
  const char* const end = text.data() + text.size();
  const auto done = std::from_chars(text.data(), end, cpu);
  if (text.empty() || done.ec != std::errc() || done.ptr != end || cpu > kCpuMax) {
    return base::fail(
        base::ErrorCode::kInvalidArgument,
        base::shown(text) + " is no processor number (0 to " + std::to_string(kCpuMax) + ")");
  }
  return cpu;
}

}  // namespace

CpuSet::CpuSet(std::vector<unsigned> cpus) : cpus_(std::move(cpus)) {
  std::sort(cpus_.begin(), cpus_.end());
  cpus_.erase(std::unique(cpus_.begin(), cpus_.end()), cpus_.end());
  CONCLAVE_CHECK(cpus_.empty() || cpus_.back() <= kCpuMax);
}

base::Result<CpuSet> CpuSet::parse(std::string_view text) {
  std::vector<bool> present(kCpuMax + 1);
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view range = text.substr(0, comma);
    const std::size_t dash = range.find('-');
    CONCLAVE_TRY(const unsigned first, parse_cpu(range.substr(0, dash)));
    unsigned last = first;
    if (dash != std::string_view::npos) {
      CONCLAVE_TRY(last, parse_cpu(range.substr(dash + 1)));
    }
    if (last < first) {
      return base::fail(base::ErrorCode::kInvalidArgument,
                        base::shown(range) + " is a range that falls");
    }
    std::fill(present.begin() + first, present.begin() + last + 1, true);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  CpuSet set;
  for (unsigned cpu = 0; cpu <= kCpuMax; ++cpu) {
    if (present[cpu]) set.cpus_.push_back(cpu);
  }
  return set;
}

std::string CpuSet::to_string() const {
  std::string text;
  for (std::size_t i = 0; i < cpus_.size();) {
    std::size_t last = i;
    while (last + 1 < cpus_.size() && cpus_[last + 1] == cpus_[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(cpus_[i]);
    if (last > i) text += "-" + std::to_string(cpus_[last]);
    i = last + 1;
  }
  return text;
}

bool CpuSet::contains(unsigned cpu) const {
  return std::binary_search(cpus_.begin(), cpus_.end(), cpu);
}

CpuSet CpuSet::without(const CpuSet& other) const {
  CpuSet rest;
  std::set_difference(cpus_.begin(), cpus_.end(), other.cpus_.begin(), other.cpus_.end(),
                      std::back_inserter(rest.cpus_));
  return rest;
}

}  // namespace conclave::devices
