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

std::size_t Overlap::micro_batches(std::size_t rows) {
  trial_ = nullptr;
  if (rows < 2 || !is_told_) return 1;
  const auto index = static_cast<std::size_t>(std::bit_width(rows)) - 1;
  Size& size = sizes_[std::min(index, sizes_.size() - 1)];
  const std::size_t usual = size.pays ? 2 : 1;
  if (size.left > 0) {
    --size.left;
    return usual;
  }
  if (size.count == 0) {
    size.tries = 0;
    size.rows = rows;
  }
  if (++size.tries > kTriesMax) {
    size.count = 0;
    size.left = kRestMin;
    return usual;
  }
  if (!alike(rows, size.rows)) return usual;
  trial_ = &size;
  return kTrial[size.count];
}

void Overlap::took(std::chrono::nanoseconds duration) {
  is_told_ = true;
  if (trial_ == nullptr) return;
  Size& size = *trial_;
  trial_ = nullptr;
  size.ns[size.count] = static_cast<double>(duration.count());
  if (++size.count == size.ns.size()) conclude(size);
}

void Overlap::conclude(Size& size) {
  size.count = 0;
  const bool pays = size.ns[1] < kGain * size.ns[0];
  if (pays != (size.ns[2] < kGain * size.ns[3])) return;
  size.rest = size.rest > 0 && pays == size.pays ? std::min(2 * size.rest, kRestMax) : kRestMin;
  size.pays = pays;
  size.left = size.rest;
}

}  // namespace conclave::engine
