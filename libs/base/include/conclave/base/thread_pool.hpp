// A fixed set of threads that share the tasks of one parallel loop at a time: what a forward pass
// needs between its barriers. It is no general task queue: no futures, no nesting, no priorities.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace conclave::base {

/// Callers on several threads take turns, a whole loop each. Tasks must not throw and must not call
/// a loop of the same pool.
class ThreadPool {
 public:
  /// `threads` counts the caller: 1 starts none. At least 1. Where the system refuses to start
  /// more, the pool works with those it got: compare threads().
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] unsigned threads() const { return static_cast<unsigned>(workers_.size()) + 1; }

  /// Calls body(task, thread) once for each task in [0, tasks), thread in [0, threads()); tasks
  /// are handed out in rising order, so put long ones first; a task may wait for lower ones, which
  /// are then done or in work. Returns when all have ended.
  template <class Body>
  void for_each(std::size_t tasks, Body&& body) {
    run(Order::kRising, tasks, body);
  }

  /// The same for many short tasks of about equal length, in any order: each thread has a share of
  /// neighbouring tasks, the same one in every loop of so many tasks, so that what it wrote in one
  /// loop is in its cache in the next, and threads do not meet at a counter. Who has done its own
  /// takes from the end of another's. Fewer than 2^32 - 1 tasks (checked).
  template <class Body>
  void for_shares(std::size_t tasks, Body&& body) {
    run(Order::kShares, tasks, body);
  }

 private:
  using Function = void (*)(void* context, std::size_t task, unsigned thread);
  static constexpr std::uint32_t kOpen = 1u << 31;
  enum class Order : std::uint8_t { kRising, kShares };

  // Tasks of a thread that nobody has taken yet: [low half, high half). It takes the first of them,
  // others the last.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> left{0};
  };

  template <class Body>
  void run(Order order, std::size_t tasks, Body& body) {
    run(
        order, tasks,
        [](void* context, std::size_t task, unsigned thread) {
          (*static_cast<Body*>(context))(task, thread);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }
  void run(Order order, std::size_t tasks, Function function, void* context);
  void deal(std::size_t tasks);
  void work(unsigned thread);
  void work_shares(unsigned thread);
  bool enter();
  void leave();
  void serve(unsigned thread);

  std::mutex turn_;  // held by the caller whose loop runs

  // The loop in progress. Written by the caller while the door is closed and nobody is inside; then
  // only what is left of shares changes.
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::size_t tasks_ = 0;
  Order order_ = Order::kRising;
  std::vector<Share> shares_;  // of each thread

  alignas(64) std::atomic<std::size_t> next_{0};          // the next task to hand out
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // one loop each; the last one says stop
  // How many workers are inside the loop, and whether more may come in. A worker that sleeps or has
  // no processor when the last task is handed out holds nobody up.
  alignas(64) std::atomic<std::uint32_t> door_{0};
  // Atomic: a worker that is late for the last loop looks at it while it is set.
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace conclave::base
