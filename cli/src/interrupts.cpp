#include "interrupts.hpp"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace conclave::cli {

namespace {

sigset_t interrupt() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

Interrupts::Interrupts(std::function<void()> idle) : idle_(std::move(idle)) {
  const sigset_t set = interrupt();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { take(); });
}

Interrupts::~Interrupts() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ::pthread_kill(thread_.native_handle(), SIGINT);
  thread_.join();
  const sigset_t set = interrupt();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

std::stop_token Interrupts::begin() {
  const std::lock_guard lock(mutex_);
  work_ = std::stop_source();
  return work_.get_token();
}

void Interrupts::done() {
  const std::lock_guard lock(mutex_);
  work_ = std::stop_source(std::nostopstate);
}

void Interrupts::take() {
  const sigset_t set = interrupt();
  for (int number = 0; ::sigwait(&set, &number) == 0;) {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    if (!work_.request_stop()) idle_();
  }
}

}  // namespace conclave::cli
