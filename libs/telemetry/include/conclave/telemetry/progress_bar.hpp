// A one-line progress bar for long work on a terminal. Logs and metrics are no business of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

namespace conclave::telemetry {

/// Draws on stderr, and only if stderr is a terminal and the work has lasted half a second, so
/// short runs, pipes and logs stay clean. One thread at a time. The line is wiped when it dies.
class ProgressBar {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  using Sink = std::function<void(const std::string& text)>;

  /// On stderr; draws nothing if that is no terminal.
  explicit ProgressBar(std::string label);
  /// Draws through `sink` by the given clock (tests). An empty sink draws nothing.
  ProgressBar(std::string label, Clock clock, Sink sink);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `done` of `total` parts; redraws at most ten times a second.
  void update(std::size_t done, std::size_t total);

 private:
  void wipe();

  std::string label_;
  Clock clock_;
  Sink sink_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point drawn_;
  bool visible_ = false;
};

}  // namespace conclave::telemetry
