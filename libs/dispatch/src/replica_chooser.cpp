#include "conclave/dispatch/replica_chooser.hpp"

#include <algorithm>

#include "conclave/base/check.hpp"

namespace conclave::dispatch {

namespace {

// What one call more costs the router itself, sending and taking the answer (fabric_bench: some 10
// us each), as a share of the worker's overhead.
constexpr double kCallShare = 0.25;

}  // namespace

double finish_us(const Candidate& candidate, std::size_t units) {
  // Of workers that nobody has measured, the one with less to do.
  const double per_unit = candidate.us_per_unit > 0.0 ? candidate.us_per_unit : 1.0;
  const double work = static_cast<double>(candidate.units_ahead + units) * per_unit;
  const double call = candidate.used ? 0.0 : kCallShare * candidate.overhead_us;
  return (work + candidate.overhead_us) * candidate.reluctance + call;
}

// SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t ReplicaChooser::next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::size_t ReplicaChooser::choose(std::span<const Candidate> candidates, std::size_t units) {
  CONCLAVE_CHECK(!candidates.empty());
  const Standing best = std::ranges::min_element(candidates, {}, &Candidate::standing)->standing;
  const auto is_eligible = [best](const Candidate& c) { return c.standing == best; };
  const auto eligible = static_cast<std::size_t>(std::ranges::count_if(candidates, is_eligible));

  // The nth of those that may be asked.
  const auto pick = [&](std::size_t nth) {
    std::size_t at = 0;
    while (!is_eligible(candidates[at]) || nth-- > 0) ++at;
    return at;
  };
  const auto better = [&](std::size_t a, std::size_t b) {
    const double one = finish_us(candidates[a], units);
    const double other = finish_us(candidates[b], units);
    if (one != other) return one < other;
    return candidates[a].used && !candidates[b].used;
  };
  if (eligible > kAllMax) {
    const std::size_t first = next() % eligible;
    const std::size_t second = (first + 1 + next() % (eligible - 1)) % eligible;
    const std::size_t a = pick(first);
    const std::size_t b = pick(second);
    return better(b, a) ? b : a;
  }
  std::size_t chosen = pick(0);
  for (std::size_t at = chosen + 1; at < candidates.size(); ++at) {
    if (is_eligible(candidates[at]) && better(at, chosen)) chosen = at;
  }
  return chosen;
}

}  // namespace conclave::dispatch
