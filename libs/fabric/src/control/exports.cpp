#include "exports.hpp"

#include <caf/all.hpp>
#include <utility>

namespace conclave::fabric {

void Exports::set(std::string name, Export entry) {
  const std::lock_guard lock(mutex_);
  if (!closed_) std::swap(entries_[std::move(name)], entry);  // the old one ends after the lock
}

std::optional<Export> Exports::find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

base::Result<Export> Exports::find_for(const NodeIdentity& peer, std::string_view name,
                                       std::uint16_t type, Context::Internal& context) const {
  const std::string target(name);
  auto found = find(name);
  if (!found || !found->admits(peer.role)) {
    context.refused(found ? Refusal::kWrongRole : Refusal::kUnknownTarget, peer.name, target);
    return base::fail(base::ErrorCode::kNotFound, "no such actor: " + target);
  }
  if (!found->takes(type)) {
    const std::string kind(wire::type_name(type));
    context.refused(Refusal::kUnknownTarget, peer.name, kind + " to " + target);
    return base::fail(base::ErrorCode::kUnimplemented, target + " does not take a " + kind);
  }
  return std::move(*found);
}

void Exports::close() {
  decltype(entries_) released;  // after the lock: an actor's end may run code
  const std::lock_guard lock(mutex_);
  closed_ = true;
  entries_.swap(released);
}

std::unordered_set<const caf::resumable*> Exports::inline_actors() const {
  std::unordered_set<const caf::resumable*> actors;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, entry] : entries_) {
    if (entry.run != Run::kInline) continue;
    const auto* actor = caf::actor_cast<caf::abstract_actor*>(entry.actor);
    if (const auto* job = dynamic_cast<const caf::resumable*>(actor)) actors.insert(job);
  }
  return actors;
}

}  // namespace conclave::fabric
