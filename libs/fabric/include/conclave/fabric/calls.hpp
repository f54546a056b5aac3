// What a router asks of the data plane: links to workers, and calls on them. CallClient does it
// over sockets and memory; a simulation may put its own network, and its own time, in the place.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "conclave/base/error.hpp"
#include "conclave/base/result.hpp"
#include "conclave/wire/common.hpp"
#include "conclave/wire/expert.hpp"

namespace conclave::fabric {

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

/// One thread at a time, but for wake().
class Calls {
 public:
  Calls() = default;
  virtual ~Calls() = default;
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  /// Connects and keeps connecting; kUp follows. "tcp://host:port", "ipc:///path", or
  /// "direct://name": a CallServer of this process that serves under that name, now or later.
  /// Ids start at 1. kInvalidArgument: malformed, or no keys for an address that needs them;
  /// kNotFound: the workers' public key; kUnavailable: no socket.
  virtual base::Result<DataLinkId> connect(const std::string& address) = 0;
  /// Ends the link and, without events, its calls; also the payloads of its replies.
  virtual void disconnect(DataLinkId link) = 0;
  [[nodiscard]] virtual bool is_up(DataLinkId link) const = 0;
  /// Of a link that is up: calls on it stay on this machine, within this process or through memory.
  [[nodiscard]] virtual bool is_near(DataLinkId link) const = 0;

  /// Memory for a call on this link. kUnavailable: the link is down; kOverloaded: as many calls as
  /// a link may have are in flight; kInvalidArgument: layout_of refuses the call. A call is in
  /// flight until its reply is released; one that failed or was cancelled after send() until the
  /// worker's late answer comes or the link goes down, since the worker may still write into its
  /// memory.
  virtual base::Result<CallBuffer> prepare(DataLinkId link, const wire::ExpertCall& call) = 0;

  /// Sends the prepared call; its kReply or kFailed comes from poll(). Does not block, but a direct
  /// call runs here and now. The payload is not the caller's any more.
  virtual void send(CallId id, const wire::TraceContext& trace,
                    std::chrono::steady_clock::time_point deadline) = 0;
  /// Gives up a prepared or sent call, or a reply: no event follows.
  virtual void cancel(CallId id) = 0;

  /// Waits until something happened or `until`, and returns all that happened; empty: time out, or
  /// wake(). Valid until the next poll. When a link goes down its kDown comes first, then one
  /// kFailed for each of its calls that was sent.
  virtual std::span<const CallEvent> poll(std::chrono::steady_clock::time_point until) = 0;

  /// Ends the use of a reply's payload. Does nothing for calls that have ended otherwise.
  virtual void release(CallId id) = 0;

  /// Ends a poll() of another thread early, or the next one. The only member for any thread.
  virtual void wake() = 0;
};

}  // namespace conclave::fabric
