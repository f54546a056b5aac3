// Lends the lane's thread to actors that are short: a message that the lane delivers to one of them
// is handled right there, which saves the wake-up of a scheduler thread. All others go to the
// scheduler as ever.
#pragma once

#include <caf/execution_unit.hpp>
#include <caf/resumable.hpp>
#include <cstddef>
#include <deque>
#include <mutex>
#include <unordered_set>

namespace conclave::fabric {

/// The lane's thread only, but for set_actors(). The actor system must outlive it.
class InlineUnit final : public caf::execution_unit {
 public:
  explicit InlineUnit(caf::actor_system& system) : caf::execution_unit(&system) {}

  /// The actors that run here. Any thread. One that has ended since may be named still.
  void set_actors(std::unordered_set<const caf::resumable*> actors);

  /// Called by CAF when a message wakes an actor.
  void exec_later(caf::resumable* job) override;

  /// Runs what is woken, at most `turns` of actors, so that sockets get their turn.
  void run(std::size_t turns);
  [[nodiscard]] bool idle() const { return jobs_.empty(); }

  /// Leaves what is woken, now and later, to the scheduler.
  void retire();

 private:
  bool runs_here(const caf::resumable* job);

  std::mutex mutex_;  // guards actors_
  std::unordered_set<const caf::resumable*> actors_;
  std::deque<caf::resumable*> jobs_;  // each holds a reference
};

}  // namespace conclave::fabric
