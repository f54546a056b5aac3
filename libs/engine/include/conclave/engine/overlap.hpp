// Whether steps go in two micro-batches, so that one computes here while experts of the other are
// computed on other machines. That hides the way there and back and lets both sides work at once,
// but each half reads the weights of the backbone and of nearly all experts for itself: it pays
// where links are slow or rows are many, and is measured, as both depend on machines and network.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace conclave::engine {

/// One thread. It knows no clock: it is told how long steps took, and until then there is one
/// micro-batch.
///
/// Steps of about as many rows (twice as many at most) are judged together. A trial is four of
/// them, alike in rows: one, two, two, one micro-batches. Both pairs of neighbours must say the
/// same, or something disturbed one of them, and the trial begins anew. What it says holds for
/// kRestMin steps, and twice as many each time that the next trial says the same.
class Overlap {
 public:
  /// Steps between trials, at least and at most.
  static constexpr std::uint32_t kRestMin = 64;
  static constexpr std::uint32_t kRestMax = 2048;
  /// Two must take at most this share of the time of one: other routers want the workers, too.
  static constexpr double kGain = 0.95;

  /// Micro-batches, 1 or 2, of a step of so many rows (2 at least; fewer: 1) in all layers.
  [[nodiscard]] std::size_t micro_batches(std::size_t rows);

  /// The step that micro_batches() was last asked for took so long. Of one that failed, nothing is
  /// said.
  void took(std::chrono::nanoseconds duration);

 private:
  // Of steps with [2^i, 2^(i+1)) rows.
  struct Size {
    bool pays = false;
    std::uint32_t rest = 0;   // steps between the last trial and the next; 0: there was none
    std::uint32_t left = 0;   // of them
    std::uint32_t tries = 0;  // steps since the trial began
    std::size_t rows = 0;     // of its first one
    std::size_t count = 0;    // of its steps that are over
    std::array<double, 4> ns{};
  };

  void conclude(Size& size);

  std::array<Size, 32> sizes_;
  Size* trial_ = nullptr;  // of the last step, if it was one of a trial
  bool is_told_ = false;
};

}  // namespace conclave::engine
