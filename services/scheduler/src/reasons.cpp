#include "reasons.hpp"

#include <optional>
#include <utility>

#include "bits.hpp"
#include "conclave/base/text.hpp"

namespace conclave::scheduler {
namespace {

// Workers whose own reasons one sentence repeats.
constexpr std::size_t kNamedWorkersMax = 4;

}  // namespace

std::string_view name_of(wire::NodeState state) {
  switch (state) {
    case wire::NodeState::kStarting:
      return "starting";
    case wire::NodeState::kReady:
      return "ready";
    case wire::NodeState::kDraining:
      return "draining";
  }
  return "unknown";
}

std::string missing_experts(const wire::ExpertBits& missing,
                            const std::vector<const wire::NodeReport*>& workers) {
  std::optional<std::pair<std::uint32_t, std::uint32_t>> first;
  std::size_t others = 0;
  for_each(missing, [&](std::uint32_t layer, std::uint32_t index) {
    if (first) {
      ++others;
    } else {
      first = {layer, index};
    }
  });
  if (!first) return "the next routing table is about to be published";
  std::string text = "expert (" + std::to_string(first->first) + ", " +
                     std::to_string(first->second) + ") has no ready worker";
  if (others != 0) {
    text += others == 1 ? ", nor has 1 other" : ", nor have " + std::to_string(others) + " others";
  }
  std::size_t named = 0;
  for (const wire::NodeReport* worker : workers) {
    if (worker->reason.empty()) continue;
    if (named++ == kNamedWorkersMax) return text + "; ..";
    text += "; " + base::printable(worker->node) + ": " + base::printable(worker->reason);
  }
  return text;
}

}  // namespace conclave::scheduler
