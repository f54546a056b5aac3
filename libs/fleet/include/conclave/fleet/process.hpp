// What the services of one process share below their nodes: CAF's threads and ZeroMQ's context with
// the keys. A service process has one; `conclave serve` has one for all five services.
#pragma once

#include <caf/actor_system.hpp>
#include <chrono>
#include <memory>
#include <span>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/fleet/settings.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::fleet {

/// Any thread. Outlives every node made with it; actors must have ended before its destructor,
/// which waits for them.
class Process {
 public:
  /// `keys_directory` empty: inproc addresses only. Errors of KeyRing::load and Context::create.
  static base::Result<std::unique_ptr<Process>> create(const std::string& keys_directory,
                                                       wire::NodeRole role, telemetry::Logger log,
                                                       telemetry::Metrics& metrics);
  ~Process();

  [[nodiscard]] fabric::Context& context() { return *context_; }
  [[nodiscard]] caf::actor_system& system();

 private:
  struct Actors;
  explicit Process(std::unique_ptr<fabric::Context> context);

  std::unique_ptr<fabric::Context> context_;
  std::unique_ptr<Actors> actors_;
};

/// A service's share: a process of its own, or one that it was lent.
class ProcessRef {
 public:
  /// `shared` null: creates one.
  static base::Result<ProcessRef> take(Process* shared, const std::string& keys_directory,
                                       wire::NodeRole role, telemetry::Logger log,
                                       telemetry::Metrics& metrics);
  Process* operator->() const { return process_; }

 private:
  std::unique_ptr<Process> own_;
  Process* process_ = nullptr;
};

/// Rises with every start of a node: the wall clock in nanoseconds.
std::uint64_t incarnation_at(std::chrono::system_clock::time_point start);

/// The address that others are told: `advertised` if there is one, else what `listen` returned,
/// with this host's own address for "every interface", which nobody can connect to. Of several the
/// one on the way to the first of `peers` (tcp:// addresses), where that is a numeric one: those
/// who are in touch with it are there, too. An address and not a name: the name of a container that
/// is gone can take many seconds not to resolve, and ZeroMQ resolves in the thread that serves all
/// links.
std::string advertised_address(const std::string& advertised, const std::string& bound,
                               std::span<const std::string> peers);

}  // namespace conclave::fleet
