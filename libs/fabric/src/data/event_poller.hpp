// Waits for many descriptors at once (epoll). A ZeroMQ socket's descriptor says only that something
// may have happened: whoever is told must read until there is nothing left, and must look again
// after every send, which may take the signal away.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "descriptor.hpp"

namespace conclave::fabric {

/// One thread.
class EventPoller {
 public:
  /// kLookFirst, for what somebody on this host sends soon: looks many times before it sleeps, each
  /// time after whatever else wants this processor; `until` may be noticed as late as that lets it.
  /// To be woken takes 20 us, or 100 where a virtual processor has halted, and interrupts whoever
  /// computes there.
  enum class Patience { kSleep, kLookFirst };

  using Token = std::uint64_t;
  using Time = std::chrono::steady_clock::time_point;

  EventPoller();
  /// False: the system has no descriptor left.
  [[nodiscard]] bool ok() const { return epoll_.ok(); }

  /// False: the system refuses.
  bool add(int descriptor, Token token);
  /// Before it is closed.
  void remove(int descriptor);

  /// The tokens of those that are ready, at most kReadyMax (the others come next time); empty: it
  /// is `until`, or a signal came. Valid until the next wait.
  std::span<const Token> wait(Time until, Patience patience = Patience::kSleep);

  static constexpr std::size_t kReadyMax = 64;

 private:
  int look(Time until);
  int wait_until(Time until);

  Descriptor epoll_;
  bool fine_timeouts_ = true;  // epoll_pwait2, of Linux 5.11
  std::array<epoll_event, kReadyMax> events_{};
  std::array<Token, kReadyMax> ready_{};
};

}  // namespace conclave::fabric
