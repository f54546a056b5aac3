// Whether a server is ready, asked again and again in a thread of its own.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace conclave::cli {

class ReadyProbe {
 public:
  struct State {
    bool ready = false;
    std::string reason;  // why not: what the server says, or empty as long as none answers

    friend bool operator==(const State&, const State&) = default;
  };

  /// Asks `url` (GET, 200 means ready) five times a second, once a second when it is ready.
  explicit ReadyProbe(std::string url);
  /// Waits for an answer that is under way: a second at most.
  ~ReadyProbe() = default;

  /// The newest state, if it is another one than the last call told. At first: not ready.
  std::optional<State> changed();
  void stop() { thread_.request_stop(); }

 private:
  void ask_again(const std::stop_token& stop);

  const std::string url_;
  std::mutex mutex_;  // guards now_
  std::condition_variable_any stopped_;
  State now_;
  State told_;  // of the thread that calls changed()
  std::jthread thread_;
};

}  // namespace conclave::cli
