// One client's connection: reads requests, hands them to the handler one after the other, sends the
// answers, and ends when the client, a timeout or the server wants it.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "event_loop.hpp"
#include "outbox.hpp"
#include "read_buffer.hpp"
#include "request_parser.hpp"

namespace conclave::http {

/// Belongs to the thread of its loop, except for outbox() and wake(). Kept alive by its pending
/// reads, writes and timer, and by exchanges.
///
///   idle -> header -> body -> answer -> idle ..      each but `answer` has a deadline, and every
///                                 \-> linger         write has one
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<EventLoop> loop, boost::asio::ip::tcp::socket socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Serves until the end. Counted in connections_open by the caller, uncounted here.
  void serve();
  /// Answers 503 without reading. Counted in refusals_open by the caller, uncounted here.
  void refuse();
  /// Closes it if it does nothing.
  void drain();
  void close();

  // For any thread.
  Outbox& outbox() { return outbox_; }
  /// Lets the connection's thread look into the outbox.
  void wake();

 private:
  enum class Phase { kIdle, kHeader, kBody, kAnswer, kLinger };
  using ErrorCode = boost::system::error_code;
  using Clock = std::chrono::steady_clock;

  void enter(Phase phase, Clock::duration timeout);
  void tick();
  void on_timeout();

  void read();
  void on_read(const ErrorCode& error, std::size_t count);
  void on_input_end(bool orderly);
  void parse();
  void send_continue();
  void dispatch();
  void reject(unsigned status, std::string message);

  void pump();
  void on_write(const ErrorCode& error, std::size_t count);
  void finish_answer();
  void linger();
  void cut();

  const std::shared_ptr<EventLoop> loop_;  // first: the socket's last breath needs its context
  ServerCore& core_;
  boost::asio::ip::tcp::socket socket_;
  const std::string remote_;
  boost::asio::steady_timer timer_;
  Clock::time_point deadline_ = Clock::time_point::max();

  Phase phase_ = Phase::kIdle;
  bool fresh_ = true;  // nothing was asked yet: the header timeout runs from the opening
  bool refused_ = false;
  bool rejected_ = false;  // the current answer is the server's own, and the last
  bool busy_ = false;
  bool answering_ = false;  // counted in exchanges_running
  bool reading_ = false;
  bool writing_ = false;
  bool input_ended_ = false;
  bool closed_ = false;

  RequestParser parser_;
  ReadBuffer input_;
  Outbox outbox_;
  Outbox::Output output_;  // being written
};

}  // namespace conclave::http
