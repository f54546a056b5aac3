// The router's end of the data plane: calls to many workers from one thread, which owns the sockets
// and drives them itself: no other thread is woken on the way out or back.
//
// A link picks the fastest road both ends have: a direct call (worker in this process), shared
// memory with ZeroMQ as the doorbell (same host), or ZeroMQ frames. Callers cannot tell, except by
// time. Calls are pure, so a caller may send one again elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/wire/common.hpp"
#include "conclave/wire/expert.hpp"

namespace conclave::fabric {

struct DataSettings {
  bool encrypt = true;          // `fabric.data.encryption = none`: peers still prove themselves
  bool shared_memory = true;    // offer it to peers of this host
  std::uint32_t calls_max = 4;  // in flight on one link
  std::uint64_t shared_bytes = std::uint64_t{64} << 20;  // of one link's shared segment, at most
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 3000;
};

using CallId = std::uint64_t;
using DataLinkId = std::uint32_t;

/// Memory for one call's payload, cache-line aligned, filled by the caller before `send`.
struct CallBuffer {
  CallId id = 0;
  std::span<std::byte> payload;  // layout_of(call).bytes
};

struct CallEvent {
  enum class Kind { kReply, kFailed, kUp, kDown };
  Kind kind = Kind::kReply;
  DataLinkId link = 0;
  CallId call = 0;                     // of kReply and kFailed
  wire::ExpertReply reply;             // of kReply
  std::span<const std::byte> payload;  // of kReply: y, until release(call)
  base::Error error{};                 // of kFailed (kUnavailable: link lost, kDeadlineExceeded,
                                       // kCorruptData: the answer is malformed) and of kDown
};

/// One thread at a time (the engine's). Bounded by calls_max a link.
class CallClient {
 public:
  static base::Result<std::unique_ptr<CallClient>> create(Context& context, std::string node_name,
                                                          std::uint64_t incarnation,
                                                          const DataSettings& settings);
  ~CallClient();
  CallClient(const CallClient&) = delete;
  CallClient& operator=(const CallClient&) = delete;

  /// Connects and keeps connecting; kUp follows. "direct://name" is a CallServer of this process
  /// that listens under that name.
  base::Result<DataLinkId> connect(const std::string& address);
  void disconnect(DataLinkId link);
  [[nodiscard]] bool is_up(DataLinkId link) const;

  /// Memory for a call on this link. kUnavailable: the link is down; kOverloaded: calls_max are in
  /// flight; kInvalidArgument: layout_of refuses the call.
  base::Result<CallBuffer> prepare(DataLinkId link, const wire::ExpertCall& call);

  /// Sends the prepared call; its kReply or kFailed comes from poll(). Does not block.
  void send(CallId id, const wire::TraceContext& trace,
            std::chrono::steady_clock::time_point deadline);
  /// Gives up a prepared or sent call; no event follows.
  void cancel(CallId id);

  /// Waits until something happened or `until`, and returns all that happened; empty: time out.
  /// Valid until the next poll.
  std::span<const CallEvent> poll(std::chrono::steady_clock::time_point until);

  /// Ends a poll() of another thread early. The only member that any thread may call.
  void wake();

  /// Ends the use of a reply's payload (or of a kFailed call).
  void release(CallId id);

 private:
  class Impl;
  explicit CallClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::fabric
