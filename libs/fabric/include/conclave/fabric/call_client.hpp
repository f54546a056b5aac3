// The router's end of the data plane: calls to many workers from one thread, which owns the sockets
// and drives them itself: no other thread is woken on the way out or back.
//
// A link takes the fastest road that both ends have: a direct call (worker in this process), a
// memory segment with a local socket as the doorbell (same host), or ZeroMQ frames. Callers cannot
// tell, except by time. Calls are pure, so a caller may send one again elsewhere.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "conclave/base/result.hpp"
#include "conclave/fabric/calls.hpp"
#include "conclave/fabric/context.hpp"

namespace conclave::fabric {

/// The names that settings use; libs/config finds these by argument.
constexpr auto enum_names(Encryption /*tag*/) {
  using Name = std::pair<std::string_view, Encryption>;
  return std::to_array<Name>({{"curve", Encryption::kCurve}, {"none", Encryption::kNone}});
}

/// Of either end; both must agree on the encryption.
struct DataSettings {
  Encryption encryption = Encryption::kCurve;
  bool shared_memory = true;
  // A router has a call open on a link for each of two micro-batches while it runs their layers, as
  // many again where another worker was lost, and hedges and cancelled calls that the worker still
  // computes.
  std::uint32_t calls_max = 8;
  // Calls beyond it go as frames. Pages are taken as they are used: the largest calls decide.
  std::uint64_t shared_bytes = std::uint64_t{64} << 20;
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 3000;
  std::uint32_t reconnect_ms = 100;

  /// See config::bind.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("encryption", encryption,
      "curve, or none: peers still prove who they are, but what they say can be read on the way");
    v("shared-memory", shared_memory, "Pass calls between processes of one host through memory");
    v("calls-max", calls_max, 1u, kCallsPerLinkMax, "Most calls under way on one link");
    v("shared-bytes", shared_bytes, std::uint64_t{1} << 20, std::uint64_t{1} << 34,
      "Most shared memory of one link");
    v("heartbeat-ms", heartbeat_ms, 10u, 60000u, "How often a link says that it lives");
    v("peer-timeout-ms", peer_timeout_ms, 30u, 600000u, "Silence after which a peer is down");
    v("reconnect-ms", reconnect_ms, 1u, 60000u, "Wait before connecting again");
  }

  /// So that the doorbell's socket buffer (212,992 bytes, about 1 KB a header) never fills.
  static constexpr std::uint32_t kCallsPerLinkMax = 64;
};

/// The wall clock, for the deadlines that calls carry to other hosts.
using WallClock = std::function<std::chrono::system_clock::time_point()>;

/// One thread at a time (the engine's), but for wake(). Bounded by calls_max a link.
///
/// Trust: a worker proves its key before it hears anything. It may write anything into the shared
/// segment at any time; only rows and outputs lie there, and numbers are all that they are.
class CallClient final : public Calls {
 public:
  /// The context must outlive it. Without `wall_clock` workers do not hear of deadlines, and
  /// compute what nobody waits for any more. kUnavailable: the system gives no descriptors.
  static base::Result<std::unique_ptr<CallClient>> create(Context& context, std::string node_name,
                                                          std::uint64_t incarnation,
                                                          const DataSettings& settings,
                                                          WallClock wall_clock = {});
  ~CallClient() override;

  base::Result<DataLinkId> connect(const std::string& address) override;
  void disconnect(DataLinkId link) override;
  [[nodiscard]] bool is_up(DataLinkId link) const override;
  [[nodiscard]] bool is_near(DataLinkId link) const override;
  base::Result<CallBuffer> prepare(DataLinkId link, const wire::ExpertCall& call) override;
  void send(CallId id, const wire::TraceContext& trace,
            std::chrono::steady_clock::time_point deadline) override;
  void cancel(CallId id) override;
  std::span<const CallEvent> poll(std::chrono::steady_clock::time_point until) override;
  void release(CallId id) override;
  void wake() override;

 private:
  class Impl;
  explicit CallClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::fabric
