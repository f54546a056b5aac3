#include "inline_unit.hpp"

#include <caf/all.hpp>
#include <caf/scheduler/abstract_coordinator.hpp>
#include <utility>

#include "conclave/fabric/system.hpp"

namespace conclave::fabric {

void InlineUnit::set_actors(std::unordered_set<const caf::resumable*> actors) {
  const std::lock_guard lock(mutex_);
  actors_ = std::move(actors);
}

bool InlineUnit::runs_here(const caf::resumable* job) {
  const std::lock_guard lock(mutex_);
  return actors_.contains(job);
}

void InlineUnit::exec_later(caf::resumable* job) {
  if (runs_here(job)) {
    jobs_.push_back(job);
  } else {
    system().scheduler().enqueue(job);
  }
}

void InlineUnit::run(std::size_t turns) {
  for (; turns > 0 && !jobs_.empty(); --turns) {
    caf::resumable* job = jobs_.front();
    jobs_.pop_front();
    switch (job->resume(this, SystemConfig::kMessagesPerTurn)) {
      case caf::resumable::resume_later:
        exec_later(job);
        break;  // keeps its reference
      case caf::resumable::done:
      case caf::resumable::awaiting_message:
      case caf::resumable::shutdown_execution_unit:
        caf::intrusive_ptr_release(job);
        break;
    }
  }
}

void InlineUnit::retire() {
  set_actors({});
  for (caf::resumable* job : std::exchange(jobs_, {})) system().scheduler().enqueue(job);
}

}  // namespace conclave::fabric
