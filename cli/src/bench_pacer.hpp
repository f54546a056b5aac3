// When requests are sent. No sockets and no clock: seconds since the start of the run come in.
#pragma once

#include <cstdint>
#include <optional>

namespace conclave::cli {

struct LoadPlan {
  std::uint32_t connections = 1;  // most requests under way
  double rate = 0.0;              // requests/s, at random times (Poisson); 0: a new request as soon
                                  // as a connection is free
  std::uint64_t requests = 0;     // that are sent; 0: until the time is over
  double duration_s = 0.0;        // no request is sent after it; 0: until all are sent
  std::uint64_t seed = 0;         // of the random times
};

class Pacer {
 public:
  explicit Pacer(const LoadPlan& plan);

  /// When the next request is due: now or in the past, then it is to be sent as soon as there is a
  /// connection, or in the future. None: all have been sent.
  [[nodiscard]] std::optional<double> next_due(double now) const;

  /// The request that was due has been sent.
  void sent();

  [[nodiscard]] std::uint64_t count() const { return sent_; }

 private:
  void draw();

  LoadPlan plan_;
  std::uint64_t sent_ = 0;
  double due_ = 0.0;  // with a rate: the arrival of the next request
};

}  // namespace conclave::cli
