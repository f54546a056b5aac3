// How often experts are asked for, and when that has changed enough to plan again. Windows of
// counts go in; a decayed load, what describes its shape, and a yes or no come out. No clock:
// whoever closes a window says how long it was.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace conclave::placement {

/// The shape of one layer's load. All 0 while the layer has none.
struct LayerLoad {
  double pairs = 0;             // in the decayed window
  double entropy = 0;           // normalised: 1 all alike, 0 all to one expert
  double variation = 0;         // standard deviation by mean
  double max_over_mean = 0;     // the hottest expert by the mean of all
  double hottest_share = 0;     // of the layer's pairs
  std::uint32_t hottest = 0;    // its index
  std::uint32_t activated = 0;  // experts with any pair in the decayed window
};

struct LoadWindowOptions {
  /// After how long a pair counts half. Long enough that one client's burst is not a trend, short
  /// enough to follow a day: some minutes.
  std::chrono::milliseconds half_life{60'000};
};

/// Loads of one model's experts as an exponentially decayed sum, so that a busy window weighs more
/// than an idle one and silence changes nothing but the age. One thread; memory of
/// layers * experts * 4 numbers.
class LoadWindow {
 public:
  LoadWindow(std::uint32_t layers, std::uint32_t experts, LoadWindowOptions options = {});

  /// Pairs since the last close(); out of range is ignored, as it comes from a report.
  void add(std::uint32_t layer, std::uint32_t expert, std::uint64_t pairs);
  /// The same for all experts at once: layers * experts values (checked).
  void add(std::span<const std::uint64_t> pairs);
  /// Ends the window that took so long.
  void close(std::chrono::milliseconds length);

  [[nodiscard]] std::uint32_t layers() const { return layers_; }
  [[nodiscard]] std::uint32_t experts() const { return experts_; }
  /// Pairs a second by (layer, expert), as PlanRequest::loads wants them; all 0 before anything was
  /// counted.
  [[nodiscard]] std::vector<double> loads() const;
  [[nodiscard]] double pairs_total() const { return pairs_total_; }  // decayed
  [[nodiscard]] LayerLoad layer(std::uint32_t layer) const;

  /// Remembers the load of now as the one that a placement was made for.
  void mark_placed();
  /// How far the load has gone from there: Jensen-Shannon divergence of the experts' shares in bits
  /// (0 the same, 1 nothing in common), mean over layers by their pairs, less what as few pairs
  /// would show by chance; never below 0. 0 while nothing was marked or counted.
  [[nodiscard]] double drift() const;

 private:
  std::uint32_t layers_;
  std::uint32_t experts_;
  LoadWindowOptions options_;
  std::vector<double> open_;     // pairs of the window that is not closed
  std::vector<double> decayed_;  // pairs
  std::vector<double> placed_;   // `decayed_` at mark_placed(); empty: never
  double seconds_ = 0;           // decayed as the pairs are
  double pairs_total_ = 0;
};

struct DriftOptions {
  /// How much worse than after the last plan the mean max/mean must be to plan again.
  double loss_min = 0.15;
  /// ... in so many windows one after the other.
  std::uint32_t windows = 3;
  /// ... while the load has drifted at least so far (LoadWindow::drift).
  double drift_min = 0.01;
  /// Windows after a plan in which it is left to settle.
  std::uint32_t rest = 3;
};

/// Says when drift is worth a new plan, and not on noise: it must last, and a plan that came out no
/// better raises what the next one must promise, so that a load which cannot be balanced does not
/// plan for ever. Joins, losses, versions and commands need no trigger. One thread.
class DriftTrigger {
 public:
  explicit DriftTrigger(DriftOptions options = {}) : options_(options) {}

  /// A plan was made and this is the balance it predicts (Balance::mean).
  void planned(double balance);
  /// Once a window, with predict() of the present placement under the present load: whether to plan
  /// now. Says so once, until planned().
  [[nodiscard]] bool observe(double balance, double drift);

 private:
  DriftOptions options_;
  double reference_ = 0;  // balance that was last planned; 0: nothing planned yet
  std::uint32_t since_plan_ = 0;
  std::uint32_t bad_windows_ = 0;
  bool asked_ = false;
};

}  // namespace conclave::placement
