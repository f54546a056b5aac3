// What goes out on one connection: put in by handlers from any thread, taken out by the thread of
// the connection. It frames answers, bounds what waits, and remembers who wants to hear of a loss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "response_head.hpp"
#include "server_core.hpp"

namespace conclave::http {

/// Answers are numbered, because a handler may still hold the exchange of an answer long sent:
/// calls with an old number do nothing. The functions for any thread return true when the
/// connection's thread must be told to take(); in a burst only the first does.
class Outbox {
 public:
  /// How the request in question is to be answered.
  struct Terms {
    bool keep_alive = true;
    bool http_1_0 = false;
    bool head_only = false;
  };

  struct Output {
    std::string bytes;        // first
    std::string body;         // then
    bool complete = false;    // the answer ends with these
    bool keep_alive = false;  // of a complete answer: another one may follow
    bool broken = false;      // the handler left the stream unfinished: cut the connection
  };

  explicit Outbox(const ServerCore& core) : core_(core) {}

  // For the connection's thread, which after open() and after sent() must take().

  std::uint64_t open(const Terms& terms);
  void take(Output& output);
  /// What was taken is with the kernel.
  void sent();
  /// The complete answer is sent: the next may be opened.
  void finish();
  /// True from the last byte that is put in to finish().
  bool complete();
  /// The client is too slow: cut the connection, whatever is being written.
  bool overflowed();
  /// The connection is lost. Returns whom to tell, if an answer was incomplete.
  std::function<void()> close();

  // For any thread.

  bool respond(std::uint64_t number, Response&& response);
  bool begin(std::uint64_t number, const Response& head);
  /// False: not taken. `wake` is what the others return.
  bool write(std::uint64_t number, const std::string& chunk, bool& wake);
  bool end(std::uint64_t number);
  /// Nobody is left who could answer: 500, or a broken stream.
  bool abandon(std::uint64_t number);
  /// False if the connection is lost already: then `callback` is still the caller's to call.
  bool on_close(std::uint64_t number, std::function<void()>& callback);

 private:
  enum class State { kNone, kWaiting, kStreaming, kComplete, kClosed };

  // All with mutex_ held.
  [[nodiscard]] bool is(std::uint64_t number, State state) const;
  void put_head(const Response& response, HeadTerms::Framing framing);
  void complete_now(std::function<void()>& dropped);
  bool wake();

  const ServerCore& core_;
  std::mutex mutex_;  // guards all below
  State state_ = State::kNone;
  std::uint64_t number_ = 0;
  Terms terms_;
  bool has_body_ = false;  // a stream's chunks are sent, not only its head
  bool chunked_ = false;
  bool lost_incomplete_ = false;  // of answer number_, after close()
  bool overflow_ = false;
  bool broken_ = false;
  bool awake_ = false;           // the connection's thread will take() without being told
  std::string bytes_;            // waiting
  std::string body_;             // waiting, after bytes_
  std::size_t taken_bytes_ = 0;  // not with the kernel yet
  std::function<void()> on_close_;
};

}  // namespace conclave::http
