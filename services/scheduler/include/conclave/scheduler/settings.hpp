// What the scheduler can be told.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace conclave::scheduler {

/// Section `scheduler`.
struct SchedulerSettings {
  std::string listen = "tcp://127.0.0.1:7600";
  std::string registry = "tcp://127.0.0.1:7601";
  std::string model;
  std::uint32_t replicas = 1;
  std::chrono::milliseconds lease{5000};
  std::chrono::milliseconds settle{1000};
  std::chrono::milliseconds grace{1000};
  std::chrono::milliseconds publish{100};
  std::chrono::milliseconds resolve{2000};

  template <class Visitor>
  void visit(Visitor&& v) {
    using std::chrono::milliseconds;
    v("listen", listen, "Address for all other nodes");
    v("registry", registry, "Address of the registry");
    v("model", model,
      "Model to serve: name, name@alias or name:version (default: the registry's own)");
    v("replicas", replicas, 1u, 64u, "Copies of each expert, each on another worker");
    v("lease-ms", lease, milliseconds{100}, milliseconds{3'600'000},
      "A node that does not report for this long is gone");
    v("settle-ms", settle, milliseconds{0}, milliseconds{600'000},
      "Wait for more reports after the first worker's, before anything is planned");
    v("grace-ms", grace, milliseconds{0}, milliseconds{600'000},
      "A copy that no table lists any more is kept this long, for calls under way");
    v("publish-ms", publish, milliseconds{10}, milliseconds{60'000},
      "Shortest time between two routing tables");
    v("resolve-ms", resolve, milliseconds{100}, milliseconds{3'600'000},
      "How often the registry is asked what the model means now");
  }
};

}  // namespace conclave::scheduler
