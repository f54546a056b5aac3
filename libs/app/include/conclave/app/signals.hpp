// SIGTERM and SIGINT as an event to wait for.
#pragma once

#include <memory>

#include "conclave/base/result.hpp"

namespace conclave::app {

/// While it lives the two signals no longer kill the process: the first one ends wait_for_stop(), a
/// second one exits at once with 128 + its number. Made by main before there are threads.
class Signals {
 public:
  /// kFailedPrecondition if there is one already: handlers belong to the process.
  static base::Result<Signals> install();
  /// Puts back the handlers that were there.
  ~Signals();
  Signals(Signals&&) noexcept;
  Signals& operator=(Signals&&) = delete;

  /// Blocks until the first signal or request_stop(); returns the signal's number, or 0.
  [[nodiscard]] int wait_for_stop();

  /// Ends wait_for_stop(). Any thread.
  void request_stop();

  /// Whether wait_for_stop() would return at once. Any thread.
  [[nodiscard]] bool is_stop_requested() const;

 private:
  struct State;
  explicit Signals(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace conclave::app
