// A service that tells what is done to it.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <utility>

#include "conclave/app/service.hpp"

namespace conclave::app {

class FakeService final : public AnyService {
 public:
  using Tell = std::function<void(const std::string& what)>;

  FakeService(std::string name, Tell tell) : name_(std::move(name)), tell_(std::move(tell)) {}

  base::Status start_status;
  base::Status ready_status;
  std::function<void()> on_start = [] {};

  [[nodiscard]] std::string_view name() const override { return name_; }
  base::Status start() override {
    tell_(name_ + " start");
    on_start();
    return start_status;
  }
  [[nodiscard]] base::Status ready() const override { return ready_status; }
  void drain(std::chrono::steady_clock::time_point /*deadline*/) override {
    tell_(name_ + " drain");
  }
  void stop() override { tell_(name_ + " stop"); }

 private:
  const std::string name_;
  const Tell tell_;
};

}  // namespace conclave::app
