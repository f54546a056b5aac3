// Numeric addresses in place of host names, looked up beside the threads that serve links: the name
// of a container that is gone can take a name server twenty seconds not to know, and ZeroMQ would
// spend them on the thread of all links. IPv4, as ZeroMQ's sockets are by default.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::fabric {

/// Any thread. Lookups that are under way at its end go on by themselves and are forgotten.
class HostNames {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// "scheduler-0.scheduler" -> "10.1.2.3"; blocks for as long as it takes.
  using Lookup = std::function<base::Result<std::string>(const std::string& host)>;

  /// An answer is used for so long: links that connect at the same moment ask once.
  static constexpr std::chrono::milliseconds kFresh{1000};
  /// A lookup that takes longer lets the address serve that the name had before.
  static constexpr std::chrono::milliseconds kPatience{2000};
  /// Threads that wait for name servers, at most; other names wait for one of them.
  static constexpr std::size_t kLookupsMax = 8;
  /// Names that are remembered: more than a node has peers in its configuration.
  static constexpr std::size_t kNamesMax = 4096;

  HostNames();  // asks the system
  explicit HostNames(Lookup lookup);

  /// Whether this is "tcp://name:port" with a name that must be looked up.
  static bool is_name(const std::string& address);

  /// "tcp://name:port" with the address of the name, which may have changed since the last time;
  /// every other address as it is. Nothing: not known yet, ask again. kUnavailable: it was looked
  /// up in vain and never had an address; asked again later, it is looked up again. kOverloaded:
  /// more than kNamesMax names.
  base::Result<std::optional<std::string>> numeric(const std::string& address, Time now);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace conclave::fabric
