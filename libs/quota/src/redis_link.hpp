// A connection to one Redis that is kept up: commands go out in one pipeline, each has a deadline,
// and while nobody answers, who calls is told so at once. hiredis speaks the protocol; what a
// broken or hostile server may send is bounded here.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/quota/redis.hpp"

struct redisContext;

namespace conclave::quota {

/// Has a thread of its own, which owns the connection. Its resolver may hold it for some seconds,
/// which only its destructor waits for.
class RedisLink {
 public:
  /// The integers of the reply; none for +OK. kUnavailable: nothing has happened, since Redis is
  /// away or takes no writes; kDeadlineExceeded: it may have happened; kInternal: Redis refuses
  /// just it; kCorruptData: another shape of reply than that.
  using Numbers = std::vector<std::int64_t>;
  using Then = std::function<void(base::Result<Numbers>)>;

  /// Commands that wait, some hundred bytes to 3 KB each; more are kUnavailable.
  static constexpr std::size_t kCallsMax = 8192;
  /// Bytes that are read ahead of a whole reply. Ours are below 300.
  static constexpr std::size_t kReplyBytesMax = std::size_t{64} << 10;
  static constexpr std::size_t kElementsMax = 64;
  static constexpr std::chrono::milliseconds kConnectTimeout{1000};
  /// Between two tries to connect, doubled until Redis answers something again.
  static constexpr std::chrono::milliseconds kPauseMin{50};
  static constexpr std::chrono::milliseconds kPauseMax{2000};

  explicit RedisLink(RedisOptions options);
  /// Gives what was called already the options' timeout.
  ~RedisLink();
  RedisLink(const RedisLink&) = delete;
  RedisLink& operator=(const RedisLink&) = delete;

  /// Any thread. `then` is called once, on the link's thread, or on this one if it fails at once.
  void call(std::vector<std::string> command, Then then);
  [[nodiscard]] bool up() const { return up_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Call {
    std::vector<std::string> command;
    Then then;
    Clock::time_point deadline;
  };
  struct Free {
    void operator()(redisContext* context) const;
  };
  class Wake {  // an eventfd
   public:
    Wake();
    ~Wake();
    Wake(const Wake&) = delete;
    Wake& operator=(const Wake&) = delete;
    void set() const;
    void clear() const;
    [[nodiscard]] int fd() const { return fd_; }

   private:
    int fd_;
  };

  void run();
  base::Status open();
  base::Status shake_hands();
  /// Until the link breaks or is to end.
  base::Status serve();
  /// Sends and receives once; waits for something to do until `until` at most.
  base::Status round(Clock::time_point until);
  base::Status receive();
  void send(Call call);
  void take_queue();
  void set_up(bool up, const std::string& why);
  /// Nobody hears of them any more but through their `then`.
  void fail_all(const base::Error& error);
  void pause(std::chrono::milliseconds time);
  [[nodiscard]] bool stopping();

  const RedisOptions options_;
  const Wake wake_;
  std::atomic<bool> up_{false};
  std::mutex mutex_;  // guards the next two
  std::deque<Call> queue_;
  bool stop_ = false;

  // The thread's own.
  std::unique_ptr<redisContext, Free> context_;
  std::deque<Call> open_;  // sent, in the order of their replies
  bool has_output_ = false;
  bool answered_ = false;  // since it was opened
  std::thread thread_;
};

}  // namespace conclave::quota
