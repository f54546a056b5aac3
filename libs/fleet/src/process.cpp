#include "conclave/fleet/process.hpp"

#include <unistd.h>

#include <array>
#include <climits>
#include <optional>
#include <string_view>
#include <utility>

#include "conclave/fabric/system.hpp"

namespace conclave::fleet {

struct Process::Actors {
  fabric::SystemConfig config;
  caf::actor_system system{config};
};

Process::Process(std::unique_ptr<fabric::Context> context)
    : context_(std::move(context)), actors_(std::make_unique<Actors>()) {}

Process::~Process() = default;

caf::actor_system& Process::system() { return actors_->system; }

base::Result<std::unique_ptr<Process>> Process::create(const std::string& keys_directory,
                                                       wire::NodeRole role, telemetry::Logger log,
                                                       telemetry::Metrics& metrics) {
  std::optional<fabric::KeyRing> keys;
  if (!keys_directory.empty()) {
    CONCLAVE_TRY(keys, fabric::KeyRing::load(keys_directory, role));
  }
  CONCLAVE_TRY(auto context, fabric::Context::create(std::move(keys), std::move(log), metrics));
  return std::unique_ptr<Process>(new Process(std::move(context)));
}

base::Result<ProcessRef> ProcessRef::take(Process* shared, const std::string& keys_directory,
                                          wire::NodeRole role, telemetry::Logger log,
                                          telemetry::Metrics& metrics) {
  ProcessRef ref;
  if (shared == nullptr) {
    CONCLAVE_TRY(ref.own_, Process::create(keys_directory, role, std::move(log), metrics));
    shared = ref.own_.get();
  }
  ref.process_ = shared;
  return ref;
}

std::uint64_t incarnation_at(std::chrono::system_clock::time_point start) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(start.time_since_epoch()).count());
}

std::string advertised_address(const std::string& advertised, const std::string& bound) {
  if (!advertised.empty()) return advertised;
  for (const std::string_view everywhere : {"tcp://0.0.0.0:", "tcp://[::]:"}) {
    if (!bound.starts_with(everywhere)) continue;
    std::array<char, HOST_NAME_MAX + 1> host{};
    if (::gethostname(host.data(), host.size() - 1) != 0) break;
    return "tcp://" + std::string(host.data()) + ":" + bound.substr(everywhere.size());
  }
  return bound;
}

}  // namespace conclave::fleet
