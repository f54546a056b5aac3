// SIGTERM and SIGINT as an event to wait for.
#pragma once

#include <cstdint>

#include "conclave/base/result.hpp"

namespace conclave::app {

/// From construction to destruction the two signals no longer kill the process: the first one ends
/// wait_for_stop(), a second one exits at once with 128 + its number. One object a process, made by
/// main before there are threads.
class Signals {
 public:
  static base::Result<Signals> install();
  /// Puts back the handlers that were there.
  ~Signals();
  Signals(Signals&& other) noexcept;
  Signals& operator=(Signals&&) = delete;

  /// Blocks until the first signal or request_stop(); returns the signal's number, or 0.
  [[nodiscard]] int wait_for_stop();

  /// Ends wait_for_stop() from any thread.
  void request_stop();

 private:
  explicit Signals(int event) : event_(event) {}

  int event_ = -1;  // an eventfd: the handler and request_stop() write, wait_for_stop() reads
};

}  // namespace conclave::app
