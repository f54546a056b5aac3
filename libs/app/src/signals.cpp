#include "conclave/app/signals.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::app {
namespace {

constexpr std::array kSignals = {SIGTERM, SIGINT};

// A handler reaches nothing but globals.
std::atomic<int> the_event = -1;
std::atomic<int> the_first_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "handlers may use no locks");

void wake(int event) {
  const std::uint64_t one = 1;
  // It fails only if the counter is full, and then the waiter is awake.
  [[maybe_unused]] const auto written = ::write(event, &one, sizeof one);
}

extern "C" void on_stop_signal(int number) {
  const int saved_errno = errno;
  int none = 0;
  if (!the_first_signal.compare_exchange_strong(none, number)) ::_exit(128 + number);
  wake(the_event.load());
  errno = saved_errno;
}

}  // namespace

struct Signals::State {
  int event;  // an eventfd that stays readable from the first stop on
  std::array<struct sigaction, kSignals.size()> before{};

  explicit State(int the_eventfd) : event(the_eventfd) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before[i], nullptr);
    the_first_signal = 0;
    the_event = -1;
    ::close(event);
  }
};

Signals::Signals(std::unique_ptr<State> state) : state_(std::move(state)) {}
Signals::Signals(Signals&&) noexcept = default;
Signals::~Signals() = default;

base::Result<Signals> Signals::install() {
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) {
    return base::fail(base::ErrorCode::kUnavailable,
                      std::string("no descriptor for signals: ") + std::strerror(errno));
  }
  int none = -1;
  if (!the_event.compare_exchange_strong(none, event)) {
    ::close(event);
    return base::fail(base::ErrorCode::kFailedPrecondition, "signals are handled already");
  }
  auto state = std::make_unique<State>(event);
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;  // libraries do not expect their calls to be interrupted
  ::sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    CONCLAVE_CHECK(::sigaction(kSignals[i], &action, &state->before[i]) == 0);
  }
  return Signals(std::move(state));
}

int Signals::wait_for_stop() {
  pollfd waiting{state_->event, POLLIN, 0};
  while (::poll(&waiting, 1, -1) < 0) CONCLAVE_CHECK(errno == EINTR);
  return the_first_signal;
}

void Signals::request_stop() { wake(state_->event); }

bool Signals::is_stop_requested() const {
  pollfd waiting{state_->event, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

}  // namespace conclave::app
