#include "registrar.hpp"

#include <filesystem>
#include <utility>

namespace conclave::registry {

using base::ErrorCode;
using base::fail;

Registrar::Registrar(telemetry::Logger log) : log_(std::move(log)), thread_([this] { work(); }) {}

Registrar::~Registrar() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wanted_.notify_all();
  thread_.join();
  for (Job& job : jobs_) job.done(fail(ErrorCode::kCancelled, "the registry is stopping"));
}

base::Status Registrar::scan(wire::RegisterModel request, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (jobs_.size() >= kWaitingMax) {
      return fail(ErrorCode::kOverloaded,
                  std::to_string(kWaitingMax) + " files wait to be registered already");
    }
    jobs_.push_back({std::move(request), std::move(done)});
  }
  wanted_.notify_all();
  return {};
}

void Registrar::work() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.done(read(job.request));
  }
}

base::Result<catalog::ModelScan> Registrar::read(const wire::RegisterModel& request) {
  CONCLAVE_TRY(const std::filesystem::path path, catalog::path_of_uri(request.uri));
  log_.info("scan_started", {{"uri", request.uri}});
  const auto go_on = [this](std::uint64_t, std::uint64_t) {
    const std::lock_guard lock(mutex_);
    return !stop_;
  };
  return catalog::scan_model(path, request.name, go_on);
}

}  // namespace conclave::registry
