#include "explain.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>

#include "bits.hpp"
#include "conclave/base/text.hpp"

namespace conclave::placement {
namespace {

// Workers that one message names; there may be thousands.
constexpr std::size_t kNamedWorkersMax = 8;

std::string plural(std::uint64_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string fixed(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f", value);
  return text.data();
}

}  // namespace

std::string human(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024.0 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

void count(const PlanRequest& request, Plan& plan) {
  const ModelShape& shape = request.shape;
  plan.replicas = UINT32_MAX;
  std::vector<std::uint32_t> copies(std::size_t{shape.layers} * shape.experts);
  for (std::size_t i = 0; i < plan.targets.size(); ++i) {
    const wire::ExpertBits& target = plan.targets[i];
    const PlanWorker& worker = request.workers[i];
    for_each(target, [&](std::uint32_t layer, std::uint32_t expert) {
      ++copies[std::size_t{layer} * shape.experts + expert];
    });
    for (std::size_t word = 0; word < target.words().size(); ++word) {
      const std::uint64_t held = word_of(worker.resident, word) | word_of(worker.assigned, word);
      const std::uint64_t wanted = target.words()[word];
      plan.moves += static_cast<std::size_t>(std::popcount(wanted & ~held));
      plan.drops += static_cast<std::size_t>(std::popcount(held & ~wanted));
    }
  }
  for (std::size_t i = std::size_t{shape.dense_layers} * shape.experts; i < copies.size(); ++i) {
    plan.replicas = std::min(plan.replicas, copies[i]);
  }
  plan.bytes_moved = plan.moves * shape.expert_bytes;
}

std::string explain_shortage(const PlanRequest& request, std::uint32_t replicas) {
  const ModelShape& shape = request.shape;
  std::uint64_t room = 0;
  std::uint64_t able = 0;
  std::string named;
  for (const PlanWorker& worker : request.workers) {
    const std::uint64_t own = room_of(worker, shape);
    if (worker.leaving || own == 0) continue;
    room += own;
    if (++able > kNamedWorkersMax) continue;
    const bool by_slots = worker.slots != 0 && own == worker.slots;
    named += (able == 1 ? ": " : ", ") + base::printable(worker.name) + " " + std::to_string(own) +
             " (" + (by_slots ? "slots" : human(worker.memory_bytes)) + ")";
  }
  std::string text = shape.name + " has " + std::to_string(shape.experts_total()) + " experts of " +
                     human(shape.expert_bytes) + " (" +
                     human(shape.experts_total() * shape.expert_bytes) + ")";
  if (request.replicas > 1) text += ", wanted " + std::to_string(request.replicas) + " times";
  text += "; " + std::to_string(able) + (able == 1 ? " worker has" : " workers have") +
          " room for " + std::to_string(room) + named;
  if (able > kNamedWorkersMax) text += " and " + std::to_string(able - kNamedWorkersMax) + " more";
  if (replicas > 0) {
    text += ": some experts have only " + std::to_string(replicas) +
            (replicas == 1 ? " copy" : " copies");
  } else if (room < shape.experts_total()) {
    text += ": " + std::to_string(shape.experts_total() - room) + " too few";
  } else {
    text += ": rules leave some experts without a place";
  }
  return text;
}

std::string explain_plan(const PlanRequest& request, const Plan& plan) {
  std::string text;
  if (plan.moves == 0 && plan.drops == 0) {
    text = "keeps everything where it is";
  } else {
    text = "loads " + plural(plan.moves, "expert") + " (" + human(plan.bytes_moved) + ")";
    if (plan.drops > 0) text += ", drops " + std::to_string(plan.drops);
  }
  text += "; the busiest worker of a layer does " + fixed(plan.after.mean) +
          " times the mean (was " + fixed(plan.before.mean) + ")";
  if (request.workers.size() > 1) {
    text += ", after the loss of a worker " + fixed(plan.after.after_loss) + " in all";
  }
  text += "; fewest copies " + std::to_string(plan.replicas) + " of " +
          std::to_string(request.replicas) + " wanted";
  return text;
}

}  // namespace conclave::placement
