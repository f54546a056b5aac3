// `conclave serve`: all five services in one process, over inproc addresses and direct calls. The
// services are those of `conclave up`; only addresses, threads and memory are shared.
#include <condition_variable>
#include <filesystem>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>

#include "commands.hpp"
#include "conclave/app/process.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/engine/compute_host.hpp"
#include "conclave/expert_worker/expert_worker_service.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/gateway/gateway_service.hpp"
#include "conclave/registry/registry_service.hpp"
#include "conclave/router/router_service.hpp"
#include "conclave/scheduler/scheduler_service.hpp"

namespace conclave::cli {
namespace {

using base::Result;
using base::Status;

constexpr const char* kRegistry = "inproc://registry";
constexpr const char* kScheduler = "inproc://scheduler";
// How often the announcer looks whether requests would be answered.
constexpr std::chrono::milliseconds kLook{20};

struct Options {
  std::string model;
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  std::uint32_t threads = 0;
  std::string isa;
  app::ProcessSettings process;
  engine::BatcherOptions batch;
};

// What the services share; made first and gone last.
class Foundation {
 public:
  static constexpr std::string_view kName = "foundation";
  static constexpr std::string_view kDescription = "";
  struct Settings {};

  static Result<std::unique_ptr<Foundation>> create(const Settings&, app::ServiceContext&);
  Status start() { return {}; }
  [[nodiscard]] Status ready() const { return {}; }
  void drain(std::chrono::steady_clock::time_point) {}
  void stop() {
    process.reset();
    compute.reset();
  }

  std::unique_ptr<fleet::Process> process;
  std::unique_ptr<engine::ComputeHost> compute;
};

}  // namespace
}  // namespace conclave::cli
