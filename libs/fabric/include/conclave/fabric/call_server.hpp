// The worker's end of the data plane: takes calls of any number of routers on the thread that
// computes. Everything that waits is handed out at once, so that calls which want the same expert
// can be computed together.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "conclave/base/result.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/wire/expert.hpp"

namespace conclave::fabric {

/// One row for one expert, as calls carry them.
struct CallPair {
  std::uint32_t row = 0;
  std::uint32_t expert = 0;

  friend auto operator<=>(const CallPair& a, const CallPair& b) {
    return std::pair(a.expert, a.row) <=> std::pair(b.expert, b.row);
  }
  friend bool operator==(const CallPair&, const CallPair&) = default;
};

/// A call that waits for its answer; owned by the server until `answer`.
struct IncomingCall {
  std::uint64_t id = 0;
  wire::ExpertCall call;               // checked: layout_of(call) holds and fits the payload
  std::span<const CallPair> pairs;     // checked: sorted by (expert, row), row < rows;
                                       // take these, never those in the payload (see CallServer)
  std::span<const std::byte> payload;  // cache-line aligned, read-only
  std::span<std::byte> reply;          // layout_of(call).reply_bytes, cache-line aligned, for y
  std::chrono::steady_clock::time_point arrived;
  std::chrono::steady_clock::time_point deadline;  // max(): none
  wire::TraceContext trace;                        // of the request; empty: none
  std::string_view peer;                           // the router's name
};

/// One thread drives poll/answer; wake, peers and drain are for any. In `direct` mode (conclave
/// serve) the router's thread calls the handler itself, under a lock, in place of poll.
///
/// Trust: a router proves its key before it is heard, and is still not believed. Counts, lengths
/// and offsets are checked against what is really there; the pairs, whose numbers address memory,
/// are copied before they are checked, since a router of this host can change the payload in the
/// shared segment at any time. Rows stay where they are: numbers that only spoil that router's own
/// outputs. The segment cannot be made shorter under the server (it is sealed).
class CallServer {
 public:
  struct Limits {
    std::uint32_t peers_max = 256;                     // more routers than a fleet has
    std::uint32_t calls_max = 1024;                    // that wait, over all peers
    std::uint64_t bytes_max = std::uint64_t{1} << 30;  // of payloads and replies that wait
  };

  /// The context must outlive it. Without `wall_clock` the deadlines of calls are not known, but
  /// for direct ones. kUnavailable: the system gives no descriptors.
  static base::Result<std::unique_ptr<CallServer>> create(Context& context, std::string node_name,
                                                          std::uint64_t incarnation,
                                                          const DataSettings& settings,
                                                          const Limits& limits,
                                                          WallClock wall_clock = {});
  ~CallServer();
  CallServer(const CallServer&) = delete;
  CallServer& operator=(const CallServer&) = delete;

  /// "tcp://127.0.0.1:0", "ipc:///path"; returns the address with the real port. Once.
  /// kInvalidArgument: malformed, or the context has no worker's keys; kUnavailable: in use;
  /// kFailedPrecondition: it listens already.
  base::Result<std::string> listen(const std::string& address);

  /// Makes this process's CallClients that connect to "direct://<name>" call `handler` on their own
  /// thread, one at a time: it must answer() every call that it gets before it returns. The
  /// destructor waits for it. kFailedPrecondition: the name is taken.
  base::Status serve_direct(const std::string& name,
                            std::function<void(std::span<IncomingCall* const>)> handler);

  /// Waits for calls or `until`, then takes all that wait, oldest first; empty: time out, or
  /// wake(). Calls whose deadline has passed, and those beyond the limits, are answered here. The
  /// span is valid until the next poll, a call until it is answered.
  std::span<IncomingCall* const> poll(std::chrono::steady_clock::time_point until);

  /// With reply.ok, y must be in call.reply. The call is gone afterwards, also if its router is.
  void answer(IncomingCall& call, const wire::ExpertReply& reply);

  /// Ends a poll() of another thread early, or the next one.
  void wake();

  /// Routers connected now, direct ones included.
  [[nodiscard]] std::size_t peers() const;

  /// Refuses calls from now on (kUnavailable), so that routers go elsewhere; what was taken is
  /// answered.
  void drain();

 private:
  class Impl;
  explicit CallServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::fabric
