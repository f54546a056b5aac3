// What all links of a process share: the ZeroMQ context, the keys, the handler that decides which
// client keys get in (ZAP, https://rfc.zeromq.org/spec/27), and the counters of what was refused.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/fabric/keys.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::fabric {

enum class Encryption { kCurve, kNone };

/// Why something was turned away: label of conclave_fabric_refused_total.
enum class Refusal {
  kNoKey,
  kUnknownKey,
  kWrongRole,
  kMalformed,
  kOversized,
  kVersion,
  kUnknownTarget,
  kOverloaded
};

/// Any thread. Must outlive every node and data link made with it; its destructor waits for their
/// sockets to be closed.
class Context {
 public:
  /// Without keys only inproc:// addresses can be used: tests and `conclave serve`.
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
