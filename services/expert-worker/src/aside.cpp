#include "aside.hpp"

#include <string>
#include <system_error>

#include "conclave/devices/priority.hpp"

namespace conclave::expert_worker {

Aside::Aside(int nice, telemetry::Logger log) {
  try {
    thread_ = std::thread([this, nice, log] { serve(nice, log); });
  } catch (const std::system_error& error) {
    log.warn("priority_not_lowered", {{"error", std::string("no thread: ") + error.what()}});
  }
}

Aside::~Aside() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Aside::run(const std::function<void()>& work) {
  if (!thread_.joinable()) return work();
  std::unique_lock lock(mutex_);
  work_ = &work;
  changed_.notify_all();
  changed_.wait(lock, [this] { return work_ == nullptr; });
}

void Aside::serve(int nice, const telemetry::Logger& log) {
  if (const base::Status lowered = devices::lower_this_thread(nice); !lowered) {
    log.info("priority_not_lowered", {{"error", lowered.error().message}});
  }
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || work_ != nullptr; });
    if (work_ == nullptr) return;
    const std::function<void()>& work = *work_;
    lock.unlock();
    work();
    lock.lock();
    work_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace conclave::expert_worker
