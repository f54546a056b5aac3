#include "conclave/placement/load_window.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "conclave/base/check.hpp"

namespace conclave::placement {
namespace {

// Jensen-Shannon divergence in bits of two lists of counts with sums > 0.
double divergence(std::span<const double> a, double sum_a, std::span<const double> b,
                  double sum_b) {
  double bits = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double p = a[i] / sum_a;
    const double q = b[i] / sum_b;
    const double middle = (p + q) / 2;
    if (p > 0) bits += p / 2 * std::log2(p / middle);
    if (q > 0) bits += q / 2 * std::log2(q / middle);
  }
  return bits;
}

double sum_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

LoadWindow::LoadWindow(std::uint32_t layers, std::uint32_t experts, LoadWindowOptions options)
    : layers_(layers),
      experts_(experts),
      options_(options),
      open_(std::size_t{layers} * experts),
      decayed_(open_.size()) {
  CONCLAVE_CHECK(options_.half_life.count() > 0);
}

void LoadWindow::add(std::uint32_t layer, std::uint32_t expert, std::uint64_t pairs) {
  if (layer >= layers_ || expert >= experts_) return;
  open_[std::size_t{layer} * experts_ + expert] += static_cast<double>(pairs);
}

void LoadWindow::add(std::span<const std::uint64_t> pairs) {
  CONCLAVE_CHECK(pairs.size() == open_.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) open_[i] += static_cast<double>(pairs[i]);
}

void LoadWindow::close(std::chrono::milliseconds length) {
  const double seconds = std::chrono::duration<double>(length).count();
  const double half_life = std::chrono::duration<double>(options_.half_life).count();
  const double keep = std::exp2(-std::max(seconds, 0.0) / half_life);
  for (std::size_t i = 0; i < open_.size(); ++i) decayed_[i] = decayed_[i] * keep + open_[i];
  std::fill(open_.begin(), open_.end(), 0.0);
  seconds_ = seconds_ * keep + std::max(seconds, 0.0);
  pairs_total_ = sum_of(decayed_);
}

std::vector<double> LoadWindow::loads() const {
  std::vector<double> loads = decayed_;
  if (seconds_ <= 0) return loads;
  for (double& load : loads) load /= seconds_;
  return loads;
}

LayerLoad LoadWindow::layer(std::uint32_t layer) const {
  CONCLAVE_CHECK(layer < layers_);
  const auto counts = std::span(decayed_).subspan(std::size_t{layer} * experts_, experts_);
  LayerLoad made;
  made.pairs = sum_of(counts);
  if (made.pairs <= 0) return made;
  const double mean = made.pairs / experts_;
  double squares = 0;
  for (std::uint32_t e = 0; e < experts_; ++e) {
    const double share = counts[e] / made.pairs;
    if (share > 0) made.entropy -= share * std::log2(share);
    squares += (counts[e] - mean) * (counts[e] - mean);
    made.activated += counts[e] > 0 ? 1u : 0u;
    if (counts[e] > counts[made.hottest]) made.hottest = e;
  }
  made.entropy = experts_ > 1 ? made.entropy / std::log2(experts_) : 1;
  made.variation = std::sqrt(squares / experts_) / mean;
  made.hottest_share = counts[made.hottest] / made.pairs;
  made.max_over_mean = counts[made.hottest] / mean;
  return made;
}

void LoadWindow::mark_placed() { placed_ = decayed_; }

double LoadWindow::drift() const {
  if (placed_.empty()) return 0;
  double weighted = 0;
  double pairs = 0;
  for (std::uint32_t layer = 0; layer < layers_; ++layer) {
    const std::size_t first = std::size_t{layer} * experts_;
    const auto now = std::span(decayed_).subspan(first, experts_);
    const auto then = std::span(placed_).subspan(first, experts_);
    const double sum_now = sum_of(now);
    const double sum_then = sum_of(then);
    if (sum_now <= 0 || sum_then <= 0) continue;
    // Two samples of n and m draws from one distribution over E lie (E - 1) / 8 * (1/n + 1/m) nats
    // apart in the mean (JS is an eighth of chi-square near zero). Twice that is beyond chance.
    const double chance = (experts_ - 1) / 4.0 * (1 / sum_now + 1 / sum_then) / std::log(2.0);
    weighted += sum_now * std::max(0.0, divergence(now, sum_now, then, sum_then) - chance);
    pairs += sum_now;
  }
  return pairs > 0 ? weighted / pairs : 0;
}

void DriftTrigger::planned(double balance) {
  // A plan on our asking that won nothing: only what is worse than that is worth another.
  reference_ = balance;
  since_plan_ = 0;
  bad_windows_ = 0;
  asked_ = false;
}

bool DriftTrigger::observe(double balance, double drift) {
  ++since_plan_;
  if (reference_ <= 0 || asked_ || since_plan_ <= options_.rest) return false;
  const bool is_bad = balance - reference_ > options_.loss_min && drift >= options_.drift_min;
  bad_windows_ = is_bad ? bad_windows_ + 1 : 0;
  if (bad_windows_ < options_.windows) return false;
  asked_ = true;
  return true;
}

}  // namespace conclave::placement
