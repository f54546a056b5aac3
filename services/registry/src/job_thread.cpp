#include "job_thread.hpp"

#include <string>
#include <utility>

namespace conclave::registry {

using base::ErrorCode;
using base::fail;

JobThread::JobThread() : thread_([this] { work(); }) {}

base::Status JobThread::run(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return fail(ErrorCode::kCancelled, "the registry is stopping");
    if (jobs_.size() >= kWaitingMax) {
      return fail(ErrorCode::kOverloaded, std::to_string(kWaitingMax) + " jobs wait already");
    }
    jobs_.push_back(std::move(job));
  }
  wanted_.notify_all();
  return {};
}

void JobThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wanted_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void JobThread::work() {
  const auto go_on = [this] {
    const std::lock_guard lock(mutex_);
    return !stop_;
  };
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job(go_on);
  }
}

}  // namespace conclave::registry
