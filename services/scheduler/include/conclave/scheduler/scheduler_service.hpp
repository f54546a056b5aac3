// The scheduler service: who is in the fleet, and which worker hosts which expert.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/app/service.hpp"
#include "conclave/base/result.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/fleet/settings.hpp"
#include "conclave/scheduler/settings.hpp"

namespace conclave::scheduler {

class SchedulerService {
 public:
  static constexpr std::string_view kName = "scheduler";
  static constexpr std::string_view kDescription = "Knows the fleet and places experts on workers";

  struct Settings {
    SchedulerSettings scheduler;
    fleet::FabricSettings fabric;

    template <class Visitor>
    void sections(Visitor&& v) {
      v("scheduler", scheduler);
      v("fabric", fabric);
    }
  };

  /// What the services of one process lend each other; null: the service makes its own.
  struct Lent {
    fleet::Process* process = nullptr;
  };

  static base::Result<std::unique_ptr<SchedulerService>> create(const Settings& settings,
                                                                app::ServiceContext& context) {
    return create(settings, context, {});
  }
  static base::Result<std::unique_ptr<SchedulerService>> create(const Settings& settings,
                                                                app::ServiceContext& context,
                                                                const Lent& lent);
  ~SchedulerService();

  base::Status start();
  /// Ok while it answers nodes: whether the model is whole is the gateway's to say.
  [[nodiscard]] base::Status ready() const;
  void drain(std::chrono::steady_clock::time_point deadline);
  void stop();

  /// Where it listens, with the real port; empty before start().
  [[nodiscard]] std::string address() const;

 private:
  class Impl;
  explicit SchedulerService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::scheduler
