// What all links of a process share: the ZeroMQ context, the keys, the handler that decides which
// client keys get in (ZAP, https://rfc.zeromq.org/spec/27), and the counters of what was refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/fabric/keys.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::fabric {

enum class Encryption : std::uint8_t { kCurve, kNone };

/// Why something was turned away: label of conclave_fabric_refused_total.
enum class Refusal : std::uint8_t {
  kNoKey,          // the peer does not speak CURVE (or PLAIN where that is asked for)
  kUnknownKey,     // nobody's key, or the peer expects another server
  kWrongRole,      // a known key, of a role that has no business here
  kMalformed,      // bytes that are no message, or not one that may come now
  kOversized,      // a frame beyond the limits
  kVersion,        // of another wire version
  kUnknownTarget,  // no such actor for this peer
  kOverloaded,     // a queue is full
  kStale,          // of an earlier start of the node, or after its deadline
};
inline constexpr std::size_t kRefusals = 9;

/// "no_key", "unknown_key", ..
std::string_view to_string(Refusal reason);

/// Any thread. Must outlive every node and data link made with it; its destructor waits for their
/// sockets to be closed.
class Context {
 public:
  /// Without keys only inproc:// addresses can be used: tests and `conclave serve`. kUnavailable:
  /// the system gives no sockets or threads.
  static base::Result<std::unique_ptr<Context>> create(std::optional<KeyRing> keys,
                                                       telemetry::Logger log,
                                                       telemetry::Metrics& metrics);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  [[nodiscard]] const KeyRing* keys() const;
  [[nodiscard]] telemetry::Metrics& metrics();
  [[nodiscard]] const telemetry::Logger& log() const;

  /// Counts, and logs once a minute for each reason and peer.
  void refused(Refusal reason, std::string_view peer, std::string_view detail);

  /// For the sources of this library: the zmq::context_t and socket set-up.
  class Internal;
  [[nodiscard]] Internal& internal();

 private:
  explicit Context(std::unique_ptr<Internal> internal);
  std::unique_ptr<Internal> internal_;
};

}  // namespace conclave::fabric
