// How much of prompts a step may compute while others decode: every reader waits for the whole
// step, so prompts are read in pieces that make it only so much longer.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace conclave::engine {

/// One thread. It knows no clock: it is told how long steps took, and says nothing until then.
///
/// Work is counted in rows times layers. What a step takes is what its decoding rows take alone,
/// and something for each unit of a prompt's work. Both are measured while they happen, since both
/// follow from the machine, its neighbours, the model and how long the sequences are: now and then
/// a step goes without prompts, which tells the first, and all others tell the second. At most two
/// such steps follow each other.
class StepPace {
 public:
  /// A step may take `slowdown_max` times as long as its decoding rows alone; at least one.
  explicit StepPace(double slowdown_max) : slowdown_max_(slowdown_max) {}

  /// Work on prompts beside `decodes` rows that decode; nothing: as much as there is. Zero in a
  /// step that measures.
  [[nodiscard]] std::optional<std::uint32_t> work(std::uint32_t decodes) const;

  /// The last step took so long. One without rows that decode says nothing.
  void took(std::chrono::nanoseconds duration, std::uint32_t decodes, std::uint32_t work);

  /// The last step had prompts beyond what work() said, so it says nothing of the pace; one that
  /// was to measure did not.
  void was_exceeded(std::uint32_t decodes);

 private:
  [[nodiscard]] bool knows(std::uint32_t decodes) const;

  double slowdown_max_;
  bool is_told_ = false;
  double decode_ns_ = 0;         // a step of `decodes_` rows that decode, and no others
  std::uint32_t decodes_ = 0;    // 0: not measured
  std::uint32_t since_ = 0;      // steps since that was measured
  std::uint32_t alone_ = 0;      // steps without prompts up to the last one, as far as they count
  double unit_ns_ = 0;           // what a unit of work adds; 0: not measured
  std::uint32_t last_work_ = 0;  // on prompts in the last step with both
};

}  // namespace conclave::engine
