// The expert-worker service: one device, the experts that the scheduler gave it, and their outputs
// for any number of routers. Stateless between calls: it can die at any moment and nothing is lost.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/app/service.hpp"
#include "conclave/artifacts/settings.hpp"
#include "conclave/base/result.hpp"
#include "conclave/engine/compute_host.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/fleet/settings.hpp"

namespace conclave::expert_worker {

/// Section `expert-worker`.
struct ExpertWorkerSettings {
  std::string device = "cpu";
  std::string listen = "tcp://127.0.0.1:0";
  std::string advertise;
  std::string isa;
  std::uint64_t memory_bytes = 0;
  std::uint32_t slots = 0;
  // A third of what a computing thread gets: enough for the floor within seconds under full load.
  std::uint32_t load_nice = 5;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("device", device, "What it computes on: cpu, cpu:0-3");
    v("listen", listen, "Address for routers (port 0: a free one); direct://NAME in one process");
    v("advertise", advertise, "Address that routers are told, if it is not the one listened on");
    v("isa", isa, "Instruction set: scalar, avx2, avx512, amx (default: the best there is)");
    v("memory-bytes", memory_bytes, std::uint64_t{0}, std::uint64_t{1} << 50,
      "Memory for experts (0: what is available, and of all that it may use three quarters)");
    v("slots", slots, 0u, 1u << 20, "Most experts hosted (0: as memory allows)");
    v("load-nice", load_nice, 0u, 19u,
      "How far threads that load experts stand back where processors are busy with calls (0: not)");
  }
};

class ExpertWorkerService {
 public:
  static constexpr std::string_view kName = "expert-worker";
  static constexpr std::string_view kDescription = "Hosts experts on one device and computes them";

  struct Settings {
    ExpertWorkerSettings worker;
    artifacts::Settings artifacts;
    fleet::FleetSettings fleet;
    fleet::FabricSettings fabric;
    fabric::DataSettings data;

    template <class Visitor>
    void sections(Visitor&& v) {
      v("expert-worker", worker);
      v("artifacts", artifacts);
      v("fleet", fleet);
      v("fabric", fabric);
      v("fabric.data", data);
    }
  };

  /// What the services of one process lend each other; null: the service makes its own.
  struct Lent {
    fleet::Process* process = nullptr;
    engine::ComputeHost* compute = nullptr;
  };

  static base::Result<std::unique_ptr<ExpertWorkerService>> create(const Settings& settings,
                                                                   app::ServiceContext& context) {
    return create(settings, context, {});
  }
  static base::Result<std::unique_ptr<ExpertWorkerService>> create(const Settings& settings,
                                                                   app::ServiceContext& context,
                                                                   const Lent& lent);
  ~ExpertWorkerService();

  /// kInvalidArgument: a device or address that is none; kUnavailable: the address is taken.
  base::Status start();
  /// Ok once it hosts all that it was given.
  [[nodiscard]] base::Status ready() const;
  /// Tells the scheduler, and goes on computing until its experts are elsewhere or no router is
  /// connected.
  void drain(std::chrono::steady_clock::time_point deadline);
  void stop();

 private:
  class Impl;
  explicit ExpertWorkerService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::expert_worker
