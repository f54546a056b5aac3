#include "conclave/engine/step_pace.hpp"

#include <algorithm>

#include "conclave/model/kv_pool.hpp"

namespace conclave::engine {

namespace {

// Prompts shall end some time, whatever they take: a block of rows in one layer.
constexpr std::uint32_t kWorkMin = model::kKvBlockTokens;
// Before anything is known.
constexpr std::uint32_t kWorkFirst = 2 * kWorkMin;
// Steps after which decoding alone is measured again: sequences grow by so many tokens, and one
// step in so many costs prompts 3 % of their speed.
constexpr std::uint32_t kMeasureEvery = 32;
// Weight of the newest measurement: a few steps see a change, one disturbed step does little.
constexpr double kNewest = 0.25;
// Steps in a row that only measure: under a load that is another one in each step nothing is ever
// known for long, and prompts shall be read all the same.
constexpr std::uint32_t kMeasuresMax = 2;
// How fast work may grow from one step to the next, should a measurement be too good.
constexpr std::uint32_t kGrowth = 2;

double mean(double before, double now) {
  return before == 0 ? now : before + kNewest * (now - before);
}

}  // namespace

// A quarter more or less of them takes about as long: most of a step is reading weights.
bool StepPace::knows(std::uint32_t decodes) const {
  return decodes_ > 0 && since_ < kMeasureEvery && decodes <= decodes_ + decodes_ / 4 &&
         decodes + decodes / 4 >= decodes_;
}

std::optional<std::uint32_t> StepPace::work(std::uint32_t decodes) const {
  if (!is_told_ || decodes == 0) return std::nullopt;
  if (!knows(decodes)) return alone_ < kMeasuresMax ? 0 : kWorkFirst;
  if (unit_ns_ == 0) return kWorkFirst;
  const double work = (slowdown_max_ - 1) * decode_ns_ / unit_ns_;
  const double most = std::max(kWorkFirst, kGrowth * last_work_);
  return static_cast<std::uint32_t>(std::clamp(work, double{kWorkMin}, most));
}

void StepPace::took(std::chrono::nanoseconds duration, std::uint32_t decodes, std::uint32_t work) {
  is_told_ = true;
  if (decodes == 0) return;
  const auto ns = static_cast<double>(duration.count());
  const bool is_known = knows(decodes);
  if (work == 0) {
    alone_ = std::min(alone_ + 1, kMeasuresMax);
    decode_ns_ = mean(is_known ? decode_ns_ : 0, ns);
    decodes_ = decodes;
    since_ = 0;
    return;
  }
  alone_ = 0;
  ++since_;
  last_work_ = work;
  if (!is_known) return;
  // A step that was hardly longer than without prompts is measured as if each unit took a little:
  // what divides must not be zero.
  const double least = 0.01 * decode_ns_ / work;
  unit_ns_ = mean(unit_ns_, std::max(least, (ns - decode_ns_) / work));
}

void StepPace::was_exceeded(std::uint32_t decodes) {
  is_told_ = true;
  if (decodes == 0) return;
  if (knows(decodes)) {
    ++since_;
  } else {
    alone_ = std::min(alone_ + 1, kMeasuresMax);
  }
}

}  // namespace conclave::engine
