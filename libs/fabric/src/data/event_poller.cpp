#include "event_poller.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <thread>

namespace conclave::fabric {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

namespace {

constexpr int kLooks = 1000;  // half a millisecond, if nothing else wants to run
constexpr int kMax = static_cast<int>(EventPoller::kReadyMax);

}  // namespace

EventPoller::EventPoller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

bool EventPoller::add(int descriptor, Token token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) == 0;
}

void EventPoller::remove(int descriptor) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
}

std::span<const EventPoller::Token> EventPoller::wait(Time until, Patience patience) {
  int count = 0;
  if (patience == Patience::kLookFirst) count = look(until);
  if (count == 0) count = wait_until(until);
  count = std::max(count, 0);  // EINTR: the caller comes back
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) ready_[i] = events_[i].data.u64;
  return std::span(ready_).first(static_cast<std::size_t>(count));
}

int EventPoller::look(Time until) {
  for (int i = 0; i < kLooks && Time::clock::now() < until; ++i) {
    const int count = ::epoll_wait(epoll_.get(), events_.data(), kMax, 0);
    if (count != 0) return count;
    std::this_thread::yield();
  }
  return 0;
}

int EventPoller::wait_until(Time until) {
  // An hour at most: far deadlines such as Time::max() must not overflow below.
  constexpr nanoseconds kLongest = std::chrono::hours(1);
  const Time now = Time::clock::now();
  const nanoseconds left = until <= now ? nanoseconds(0) : std::min(until - now, kLongest);
  if (fine_timeouts_) {
    const auto seconds = duration_cast<std::chrono::seconds>(left);
    timespec timeout{};
    timeout.tv_sec = seconds.count();
    timeout.tv_nsec = (left - seconds).count();
    const int count = ::epoll_pwait2(epoll_.get(), events_.data(), kMax, &timeout, nullptr);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return count;
    fine_timeouts_ = false;
  }
  const auto rounded_up = std::chrono::ceil<milliseconds>(left);
  return ::epoll_wait(epoll_.get(), events_.data(), kMax, static_cast<int>(rounded_up.count()));
}

}  // namespace conclave::fabric
