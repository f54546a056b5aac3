#include "conclave/engine/overlap.hpp"

#include <algorithm>
#include <bit>

namespace conclave::engine {

namespace {

// Micro-batches of a trial's steps.
constexpr std::array<std::size_t, 4> kTrial = {1, 2, 2, 1};
// After so many steps without enough of them alike, a trial is given up.
constexpr std::uint32_t kTriesMax = 64;

// An eighth more or less makes no difference that a trial would see.
bool alike(std::size_t rows, std::size_t others) {
  return rows <= others + others / 8 && others <= rows + rows / 8;
}

}  // namespace

std::size_t Overlap::micro_batches(std::size_t rows, bool plain) {
  trial_ = nullptr;
  batches_ = 1;
  if (rows < 2 || !is_told_) return batches_;
  const auto index = static_cast<std::size_t>(std::bit_width(rows)) - 1;
  Size& size = sizes_[std::min(index, sizes_.size() - 1)];
  batches_ = size.pays ? 2 : 1;
  if (size.left > 0) {
    --size.left;
    return batches_;
  }
  if (size.asked == 0) {
    size.tries = 0;
    size.rows = rows;
    size.best = {};
  }
  if (++size.tries > kTriesMax) {
    size.asked = 0;
    size.left = size.rest;
  } else if (plain && alike(rows, size.rows)) {
    batches_ = kTrial[size.asked];
    trial_ = &size;
  }
  return batches_;
}

void Overlap::took(std::chrono::nanoseconds duration) {
  is_told_ = true;
  if (trial_ == nullptr) return;
  Size& size = *trial_;
  trial_ = nullptr;
  auto& best = size.best[batches_ - 1];
  best = best.count() == 0 ? duration : std::min(best, duration);
  if (++size.asked == kTrial.size()) conclude(size);
}

void Overlap::conclude(Size& size) {
  const auto one = static_cast<double>(size.best[0].count());
  const auto two = static_cast<double>(size.best[1].count());
  const bool pays = two < kGain * one;
  size.rest = pays == size.pays ? std::min(2 * size.rest, kRestMax) : kRestMin;
  size.pays = pays;
  size.left = size.rest;
  size.asked = 0;
}

}  // namespace conclave::engine
