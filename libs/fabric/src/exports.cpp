#include "exports.hpp"

#include <caf/all.hpp>

namespace conclave::fabric {

std::unordered_set<const caf::resumable*> Exports::inline_actors() const {
  std::unordered_set<const caf::resumable*> actors;
  for (const auto& [name, entry] : entries_) {
    if (entry.run != Run::kInline) continue;
    const auto* actor = caf::actor_cast<caf::abstract_actor*>(entry.actor);
    if (const auto* job = dynamic_cast<const caf::resumable*>(actor)) actors.insert(job);
  }
  return actors;
}

}  // namespace conclave::fabric
