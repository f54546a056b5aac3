// The router service: the backbone of one model, its sequences and their caches, and the dispatch
// of pairs to workers; answers gateways with tokens.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/app/service.hpp"
#include "conclave/artifacts/settings.hpp"
#include "conclave/base/result.hpp"
#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/engine/batcher.hpp"
#include "conclave/engine/compute_host.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/fleet/settings.hpp"

namespace conclave::router {

/// Section `router`.
struct RouterSettings {
  std::string listen = "tcp://127.0.0.1:0";
  std::string advertise;
  std::uint32_t threads = 0;
  std::string isa;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("listen", listen, "Address for gateways (port 0: a free one)");
    v("advertise", advertise, "Address that gateways are told, if it is not the one listened on");
    v("threads", threads, 0u, 1024u, "Threads that compute (0: one for each processor)");
    v("isa", isa, "Instruction set: scalar, avx2, avx512, amx (default: the best there is)");
  }
};

class RouterService {
 public:
  static constexpr std::string_view kName = "router";
  static constexpr std::string_view kDescription =
      "Runs the backbone and sequences, and dispatches pairs to expert workers";

  struct Settings {
    RouterSettings router;
    artifacts::Settings artifacts;
    engine::BatcherOptions batch;
    dispatch::DispatchSettings dispatch;
    fleet::FleetSettings fleet;
    fleet::FabricSettings fabric;
    fabric::DataSettings data;

    template <class Visitor>
    void sections(Visitor&& v) {
      v("router", router);
      v("artifacts", artifacts);
      v("router.batch", batch);
      v("router.dispatch", dispatch);
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

  static base::Result<std::unique_ptr<RouterService>> create(const Settings& settings,
                                                             app::ServiceContext& context) {
    return create(settings, context, {});
  }
  static base::Result<std::unique_ptr<RouterService>> create(const Settings& settings,
                                                             app::ServiceContext& context,
                                                             const Lent& lent);
  ~RouterService();

  base::Status start();
  /// Ok if the model is loaded and every expert has a reachable worker.
  [[nodiscard]] base::Status ready() const;
  /// Takes no new sequences and finishes those it has.
  void drain(std::chrono::steady_clock::time_point deadline);
  void stop();

 private:
  class Impl;
  explicit RouterService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::router
