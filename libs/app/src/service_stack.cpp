#include "conclave/app/service_stack.hpp"

#include <string>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::app {

using base::ErrorCode;

ServiceStack::~ServiceStack() { stop(); }

void ServiceStack::add(std::unique_ptr<AnyService> service) {
  CONCLAVE_CHECK(phase() == Phase::kCreated);
  services_.push_back(std::move(service));
}

base::Status ServiceStack::start() {
  CONCLAVE_CHECK(phase() == Phase::kCreated);
  enter(Phase::kStarting);
  for (const auto& service : services_) {
    ++started_;  // before start(): a service that fails half-way is stopped as well
    if (const base::Status status = service->start(); !status) {
      stop();
      return base::fail(status.error().within(service->name()));
    }
  }
  enter(Phase::kRunning);
  return {};
}

base::Status ServiceStack::ready() const {
  switch (phase()) {
    case Phase::kCreated:
    case Phase::kStarting:
      return base::fail(ErrorCode::kUnavailable, "starting");
    case Phase::kDraining:
      return base::fail(ErrorCode::kUnavailable, "draining");
    case Phase::kStopped:
      return base::fail(ErrorCode::kUnavailable, "stopped");
    case Phase::kRunning:
      break;
  }
  for (const auto& service : services_) {
    if (const base::Status status = service->ready(); !status) {
      return base::fail(status.error().within(service->name()));
    }
  }
  return {};
}

void ServiceStack::drain(std::chrono::steady_clock::time_point deadline) {
  if (phase() != Phase::kRunning) return;
  enter(Phase::kDraining);
  for (auto service = services_.rbegin(); service != services_.rend(); ++service) {
    (*service)->drain(deadline);
  }
}

void ServiceStack::stop() {
  enter(Phase::kStopped);
  while (started_ > 0) services_[--started_]->stop();
}

}  // namespace conclave::app
