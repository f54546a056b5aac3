#include "bench_pacer.hpp"

#include <cmath>

#include "conclave/engine/philox.hpp"

namespace conclave::cli {

Pacer::Pacer(const LoadPlan& plan) : plan_(plan) { draw(); }

// Gaps of a Poisson process are exponential. The draw is below 1, so its logarithm is finite.
void Pacer::draw() {
  if (plan_.rate > 0.0) due_ -= std::log1p(-engine::uniform_draw(plan_.seed, sent_)) / plan_.rate;
}

std::optional<double> Pacer::next_due(double now) const {
  if (plan_.requests > 0 && sent_ >= plan_.requests) return std::nullopt;
  const double due = plan_.rate > 0.0 ? due_ : now;
  if (plan_.duration_s > 0.0 && due >= plan_.duration_s) return std::nullopt;
  return due;
}

void Pacer::sent() {
  ++sent_;
  draw();
}

}  // namespace conclave::cli
