#include "direct_registry.hpp"

#include <array>
#include <utility>

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

base::Status DirectTarget::call(ServedCall& call) {
  const std::lock_guard lock(mutex_);
  if (closed_) return fail(ErrorCode::kUnavailable, "the worker is gone");
  if (draining_) return fail(ErrorCode::kUnavailable, "the worker drains");
  const std::array<IncomingCall*, 1> calls{&call};
  handler_(calls);
  if (!call.direct->answered) return fail(ErrorCode::kInternal, "the worker gave no answer");
  return {};
}

void DirectTarget::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

base::Status DirectRegistry::add(const std::string& name, std::shared_ptr<DirectTarget> target) {
  const std::lock_guard lock(mutex_);
  if (!targets_.emplace(name, std::move(target)).second) {
    return fail(ErrorCode::kFailedPrecondition, "direct://" + name + " is served already");
  }
  tell();
  return {};
}

void DirectRegistry::remove(const std::string& name) {
  const auto target = find(name);
  if (!target) return;
  target->close();  // waits for the call that runs, so not under the lock
  const std::lock_guard lock(mutex_);
  targets_.erase(name);
  tell();
}

std::shared_ptr<DirectTarget> DirectRegistry::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto target = targets_.find(name);
  return target == targets_.end() ? nullptr : target->second;
}

void DirectRegistry::watch(std::weak_ptr<Wakeup> watcher) {
  const std::lock_guard lock(mutex_);
  watchers_.push_back(std::move(watcher));
}

void DirectRegistry::tell() {
  std::erase_if(watchers_, [](const std::weak_ptr<Wakeup>& watcher) {
    const auto alive = watcher.lock();
    if (alive) alive->signal();
    return !alive;
  });
}

}  // namespace conclave::fabric
