// The worker's end of the data plane: takes calls of any number of routers on the thread that
// computes. Everything that waits is handed out at once, so that calls which want the same expert
// can be computed together.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/wire/expert.hpp"

namespace conclave::fabric {

/// A call that waits for its answer; owned by the server until `answer`.
struct IncomingCall {
  std::uint64_t id = 0;
  wire::ExpertCall call;               // checked: layout_of(call) holds and fits the payload
  std::span<const std::byte> payload;  // cache-line aligned, read-only
  std::span<std::byte> reply;          // layout_of(call).reply_bytes, cache-line aligned, for y
  std::chrono::steady_clock::time_point arrived;
  std::chrono::steady_clock::time_point deadline;
  std::string_view peer;  // the router's name
};

/// One thread drives poll/answer. In `direct` mode (conclave serve) the router's thread calls the
/// handler itself, under a lock, in place of poll.
class CallServer {
 public:
  struct Limits {
    std::uint32_t peers_max = 256;
    std::uint32_t calls_max = 1024;                    // that wait, over all peers
    std::uint64_t bytes_max = std::uint64_t{1} << 30;  // of payloads and replies that wait
  };

  static base::Result<std::unique_ptr<CallServer>> create(Context& context, std::string node_name,
                                                          std::uint64_t incarnation,
                                                          const DataSettings& settings,
                                                          const Limits& limits);
  ~CallServer();
  CallServer(const CallServer&) = delete;
  CallServer& operator=(const CallServer&) = delete;

  /// "tcp://127.0.0.1:0" and the like; returns the address with the real port. "direct://name": see
  /// serve_direct.
  base::Result<std::string> listen(const std::string& address);

  /// Makes this process's CallClients that connect to "direct://name" call `handler` on their own
  /// thread, one at a time: it must answer() every call that it gets before it returns.
  base::Status serve_direct(const std::string& name,
                            std::function<void(std::span<IncomingCall* const>)> handler);

  /// Waits for calls or `until`, then takes all that wait, oldest first. Calls whose deadline has
  /// passed are answered kDeadlineExceeded here. Valid until answered.
  std::span<IncomingCall* const> poll(std::chrono::steady_clock::time_point until);

  /// With reply.ok, y must be in call.reply. The call is gone afterwards.
  void answer(IncomingCall& call, const wire::ExpertReply& reply);

  /// Ends a poll() of another thread early.
  void wake();

  /// Routers connected now, direct ones included. Any thread.
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
