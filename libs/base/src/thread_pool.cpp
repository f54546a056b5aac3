#include "conclave/base/thread_pool.hpp"

#include <limits>
#include <system_error>

#include "conclave/base/check.hpp"

namespace conclave::base {
namespace {

// A loop of a decode step lasts 10 to 100 us, and a futex wake-up costs about 20, of a virtual
// processor that has halted 100. So waiting threads look for a while before they sleep: first at
// once, then after whatever else wants this processor (on few cores those are workers of this host
// and the threads that serve connections, and a loop gets along without us). An idle pool costs
// nothing.
constexpr int kSpins = 50;     // about 1 us
constexpr int kYields = 4000;  // from 0.5 ms on, if nothing else wants to run

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns when `value` is no longer `old`.
void await_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

constexpr std::uint64_t pack(std::uint64_t first, std::uint64_t end) { return first | end << 32; }

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// A task of a share, or kNone.
std::uint32_t take(std::atomic<std::uint64_t>& left, bool from_end) {
  std::uint64_t now = left.load(std::memory_order_relaxed);
  for (;;) {
    const auto first = static_cast<std::uint32_t>(now);
    const auto end = static_cast<std::uint32_t>(now >> 32);
    if (first >= end) return kNone;
    const std::uint64_t then = from_end ? pack(first, end - 1) : pack(first + 1, end);
    if (left.compare_exchange_weak(now, then, std::memory_order_relaxed)) {
      return from_end ? end - 1 : first;
    }
  }
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads) {
  try {
    for (unsigned thread = 1; thread < threads; ++thread) {
      workers_.emplace_back([this, thread] { serve(thread); });
    }
  } catch (const std::system_error&) {  // the limit on threads, or on memory for their stacks
  }
  shares_ = std::vector<Share>(this->threads());
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Order order, std::size_t tasks, Function function, void* context) {
  if (workers_.empty() || tasks <= 1) {
    for (std::size_t task = 0; task < tasks; ++task) function(context, task, 0);
    return;
  }
  const std::lock_guard turn(turn_);
  function_ = function;
  context_ = context;
  tasks_ = tasks;
  order_ = order;
  if (order == Order::kShares) deal(tasks);
  next_.store(0, std::memory_order_relaxed);
  door_.store(kOpen, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work(0);
  // Whoever has not come in by now is not waited for: there is nothing left to do.
  auto inside = door_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  while (inside != 0) {
    await_change(door_, inside);
    inside = door_.load(std::memory_order_acquire);
  }
}

void ThreadPool::deal(std::size_t tasks) {
  CONCLAVE_CHECK(tasks < kNone);
  const std::uint64_t threads = shares_.size();
  for (std::uint64_t thread = 0; thread < threads; ++thread) {
    shares_[thread].left.store(pack(tasks * thread / threads, tasks * (thread + 1) / threads),
                               std::memory_order_relaxed);
  }
}

bool ThreadPool::enter() {
  auto door = door_.load(std::memory_order_relaxed);
  while ((door & kOpen) != 0) {
    if (door_.compare_exchange_weak(door, door + 1, std::memory_order_acquire,
                                    std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

void ThreadPool::leave() {
  if (door_.fetch_sub(1, std::memory_order_acq_rel) == 1) door_.notify_one();
}

void ThreadPool::work(unsigned thread) {
  if (order_ == Order::kShares) return work_shares(thread);
  for (;;) {
    const std::size_t task = next_.fetch_add(1, std::memory_order_relaxed);
    if (task >= tasks_) return;
    function_(context_, task, thread);
  }
}

void ThreadPool::work_shares(unsigned thread) {
  const std::size_t threads = shares_.size();
  for (std::size_t i = 0; i < threads; ++i) {
    Share& share = shares_[(thread + i) % threads];
    for (std::uint32_t task; (task = take(share.left, i > 0)) != kNone;) {
      function_(context_, task, thread);
    }
  }
}

void ThreadPool::serve(unsigned thread) {
  for (std::uint32_t seen = 0;;) {
    await_change(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!enter()) continue;
    work(thread);
    leave();
  }
}

}  // namespace conclave::base
