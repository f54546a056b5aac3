// The router's end of the data plane: calls to many workers from one thread, which owns the sockets
// and drives them itself: no other thread is woken on the way out or back.
//
// A link takes the fastest road that both ends have: a direct call (worker in this process), a
// memory segment with a local socket as the doorbell (same host), or ZeroMQ frames. Callers cannot
// tell, except by time. Calls are pure, so a caller may send one again elsewhere.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "conclave/base/result.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/wire/common.hpp"
#include "conclave/wire/expert.hpp"

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
  // A router has one call open on a link while it runs a layer; a hedge or a cancelled call that
  // the worker still computes makes it two.
  std::uint32_t calls_max = 4;
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

using CallId = std::uint64_t;
using DataLinkId = std::uint32_t;

/// Memory for one call's payload, cache-line aligned, filled by the caller before `send`.
struct CallBuffer {
  CallId id = 0;
  std::span<std::byte> payload;  // layout_of(call).bytes
};

struct CallEvent {
  enum class Kind : std::uint8_t { kReply, kFailed, kUp, kDown };
  Kind kind = Kind::kReply;
  DataLinkId link = 0;
  CallId call = 0;                     // of kReply and kFailed
  wire::ExpertReply reply;             // of kReply
  std::span<const std::byte> payload;  // of kReply: y if reply.ok, until release(call)
  base::Error error{};                 // of kFailed (kUnavailable: link lost, kDeadlineExceeded,
                                       // kCorruptData: the answer is malformed) and of kDown
};

/// One thread at a time (the engine's), but for wake(). Bounded by calls_max a link.
///
/// Trust: a worker proves its key before it hears anything. It may write anything into the shared
/// segment at any time; only rows and outputs lie there, and numbers are all that they are.
class CallClient {
 public:
  /// The context must outlive it. Without `wall_clock` workers do not hear of deadlines, and
  /// compute what nobody waits for any more. kUnavailable: the system gives no descriptors.
  static base::Result<std::unique_ptr<CallClient>> create(Context& context, std::string node_name,
                                                          std::uint64_t incarnation,
                                                          const DataSettings& settings,
                                                          WallClock wall_clock = {});
  ~CallClient();
  CallClient(const CallClient&) = delete;
  CallClient& operator=(const CallClient&) = delete;

  /// Connects and keeps connecting; kUp follows. "tcp://host:port", "ipc:///path", or
  /// "direct://name": a CallServer of this process that serves under that name, now or later.
  /// Ids start at 1. kInvalidArgument: malformed, or no keys for an address that needs them;
  /// kNotFound: the workers' public key; kUnavailable: no socket.
  base::Result<DataLinkId> connect(const std::string& address);
  /// Ends the link and, without events, its calls; also the payloads of its replies.
  void disconnect(DataLinkId link);
  [[nodiscard]] bool is_up(DataLinkId link) const;

  /// Memory for a call on this link. kUnavailable: the link is down; kOverloaded: calls_max are in
  /// flight; kInvalidArgument: layout_of refuses the call. A call is in flight until its reply is
  /// released; one that failed or was cancelled after send() until the worker's late answer comes
  /// or the link goes down, since the worker may still write into its memory.
  base::Result<CallBuffer> prepare(DataLinkId link, const wire::ExpertCall& call);

  /// Sends the prepared call; its kReply or kFailed comes from poll(). Does not block, but a direct
  /// call runs here and now. The payload is not the caller's any more.
  void send(CallId id, const wire::TraceContext& trace,
            std::chrono::steady_clock::time_point deadline);
  /// Gives up a prepared or sent call, or a reply: no event follows.
  void cancel(CallId id);

  /// Waits until something happened or `until`, and returns all that happened; empty: time out, or
  /// wake(). Valid until the next poll. When a link goes down its kDown comes first, then one
  /// kFailed for each of its calls that was sent.
  std::span<const CallEvent> poll(std::chrono::steady_clock::time_point until);

  /// Ends the use of a reply's payload. Does nothing for calls that have ended otherwise.
  void release(CallId id);

  /// Ends a poll() of another thread early, or the next one. The only member for any thread.
  void wake();

 private:
  class Impl;
  explicit CallClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::fabric
