#include "connection.hpp"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <string_view>
#include <utility>

#include "exchange_impl.hpp"

namespace conclave::http {
namespace {

namespace asio = boost::asio;

// One page serves a request without a prompt; long bodies and clients that send ahead get more.
constexpr std::size_t kReadBytesMin = std::size_t{4} << 10;
constexpr std::size_t kReadBytesMax = std::size_t{64} << 10;

// The parser must see a header, a chunk's head or a trailer as a whole.
std::size_t read_bytes_max(const ServerOptions& options) {
  return std::max(kReadBytesMax, options.header_bytes_max + kReadBytesMin);
}

// A timer that fires this often need never be set earlier for a phase that begins.
std::chrono::milliseconds tick_period(const ServerOptions& options) {
  return std::min(
      {options.header_timeout, options.body_timeout, options.idle_timeout, options.write_timeout});
}

std::string remote_name(const asio::ip::tcp::socket& socket) {
  boost::system::error_code error;
  const auto peer = socket.remote_endpoint(error);
  if (error) return {};
  auto address = peer.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  const std::string host = address.to_string();
  const std::string port = std::to_string(peer.port());
  return address.is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

}  // namespace

Connection::Connection(std::shared_ptr<EventLoop> loop, asio::ip::tcp::socket socket)
    : loop_(std::move(loop)),
      core_(*loop_->core),
      socket_(std::move(socket)),
      remote_(remote_name(socket_)),
      timer_(loop_->io),
      parser_({core_.options.header_bytes_max, core_.options.body_bytes_max}),
      input_(kReadBytesMin, read_bytes_max(core_.options)),
      outbox_(core_) {
  loop_->connections.insert(this);
}

Connection::~Connection() = default;

void Connection::serve() {
  ErrorCode ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  enter(Phase::kIdle, core_.options.header_timeout);
  tick();
  read();
}

void Connection::refuse() {
  refused_ = true;
  tick();
  Response response = core_.error(503, "The server has too many connections.");
  response.headers.push_back({"Retry-After", std::to_string(core_.options.retry_after.count())});
  const auto number = outbox_.open({.keep_alive = false});
  enter(Phase::kAnswer, core_.options.write_timeout);
  outbox_.respond(number, std::move(response));
  pump();
}

void Connection::drain() {
  if (phase_ == Phase::kIdle) close();
}

void Connection::close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  ErrorCode ignored;
  socket_.close(ignored);
  timer_.cancel();
  const bool vanished = answering_ && !outbox_.complete();
  const auto callback = outbox_.close();
  loop_->connections.erase(this);
  if (vanished && !loop_->stopping) count(core_.counters.clients_vanished);
  if (std::exchange(answering_, false)) uncount(core_.counters.exchanges_running);
  uncount(refused_ ? core_.counters.refusals_open : core_.counters.connections_open);
  if (std::exchange(busy_, false)) core_.busy_end();
  if (callback) callback();
}

void Connection::wake() {
  // Weak: a context that runs no more would otherwise own this connection, which owns the context.
  asio::post(loop_->io, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->pump();
  });
}

// --- time ---------------------------------------------------------------------------------------

void Connection::enter(Phase phase, Clock::duration timeout) {
  phase_ = phase;
  deadline_ = Clock::now() + timeout;
}

// The timer is not moved for each phase: it fires at least once in any timeout and then looks.
void Connection::tick() {
  const auto now = Clock::now();
  if (now >= deadline_) return on_timeout();
  timer_.expires_at(std::min(deadline_, now + tick_period(core_.options)));
  timer_.async_wait([self = shared_from_this()](const ErrorCode& error) {
    if (!error && !self->closed_) self->tick();
  });
}

void Connection::on_timeout() {
  if (phase_ == Phase::kLinger) return close();
  count(core_.counters.timeouts);
  switch (phase_) {
    case Phase::kIdle:
      return close();
    case Phase::kHeader:
      reject(408, "The request header took too long.");
      break;
    case Phase::kBody:
      reject(408, "The request body took too long.");
      break;
    case Phase::kAnswer:
      return cut();
    case Phase::kLinger:
      break;
  }
  if (!closed_) tick();
}

// --- in -----------------------------------------------------------------------------------------

// Also while an answer is pending: that is how a vanished client is noticed. What it sends ahead
// waits; when the buffer is full of it, only writing can tell.
void Connection::read() {
  if (closed_ || reading_ || input_ended_ || (phase_ == Phase::kAnswer && input_.full())) return;
  reading_ = true;
  const auto space = input_.prepare();
  socket_.async_read_some(asio::buffer(space.data(), space.size()),
                          [self = shared_from_this()](const ErrorCode& error, std::size_t count) {
                            self->on_read(error, count);
                          });
}

void Connection::on_read(const ErrorCode& error, std::size_t bytes) {
  reading_ = false;
  if (closed_) return;
  if (error) return on_input_end(error == asio::error::eof);
  count(core_.counters.bytes_in, bytes);
  input_.commit(bytes);
  if (phase_ == Phase::kLinger) input_.consume(input_.unread().size());
  if (phase_ == Phase::kAnswer || phase_ == Phase::kLinger) return read();
  parse();
}

void Connection::on_input_end(bool orderly) {
  input_ended_ = true;
  // A complete answer still goes out to a client that has only closed its side.
  if (orderly && phase_ == Phase::kAnswer && outbox_.complete()) return;
  close();
}

void Connection::parse() {
  while (!input_.empty()) {
    const std::size_t taken = parser_.feed(input_.unread());
    input_.consume(taken);
    const auto state = parser_.state();
    if (parser_.begun() && !std::exchange(busy_, true)) core_.busy_begin();
    if (state == RequestParser::State::kFailed) {
      return reject(parser_.failure().status, parser_.failure().message);
    }
    if (state == RequestParser::State::kDone) return dispatch();
    if (state == RequestParser::State::kBody && phase_ != Phase::kBody) {
      enter(Phase::kBody, core_.options.body_timeout);
      if (parser_.expects_continue() && input_.empty()) send_continue();
    }
    if (phase_ == Phase::kIdle && parser_.begun()) {
      if (fresh_) phase_ = Phase::kHeader;  // the deadline is that of the opening
      if (!fresh_) enter(Phase::kHeader, core_.options.header_timeout);
    }
    if (taken == 0) break;
  }
  if (input_.full()) return reject(400, "The request has a chunk header or trailer too large.");
  if (input_ended_) return close();
  read();
}

void Connection::send_continue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  if (writing_) return;
  writing_ = true;
  asio::async_write(socket_, asio::buffer(kContinue),
                    [self = shared_from_this()](const ErrorCode& error, std::size_t bytes) {
                      self->writing_ = false;
                      count(self->core_.counters.bytes_out, bytes);
                      if (self->closed_) return;
                      if (error) return self->close();
                      self->pump();
                    });
}

void Connection::dispatch() {
  fresh_ = false;
  Outbox::Terms terms;
  terms.keep_alive = parser_.keep_alive();
  terms.http_1_0 = parser_.http_1_0();
  Request request = parser_.take();
  request.remote = remote_;
  terms.head_only = request.method == "HEAD";
  phase_ = Phase::kAnswer;
  deadline_ = Clock::time_point::max();  // the handler keeps its own time
  const auto number = outbox_.open(terms);
  answering_ = true;
  count(core_.counters.exchanges_running);
  count(core_.counters.requests);
  core_.handler(std::make_shared<ExchangeImpl>(shared_from_this(), number, std::move(request)));
  pump();
  read();
}

void Connection::reject(unsigned status, std::string message) {
  rejected_ = true;
  count(core_.counters.requests_rejected);
  const auto number = outbox_.open({.keep_alive = false});
  enter(Phase::kAnswer, core_.options.write_timeout);
  outbox_.respond(number, core_.error(status, std::move(message)));
  pump();
}

// --- out ----------------------------------------------------------------------------------------

void Connection::pump() {
  if (closed_) return;
  if (outbox_.overflowed()) return cut();
  if (writing_) return;
  outbox_.take(output_);
  if (output_.bytes.empty() && output_.body.empty()) {
    if (output_.complete) return finish_answer();  // all of it was sent before it was complete
    if (output_.broken) return cut();
    return;
  }
  writing_ = true;
  deadline_ = Clock::now() + core_.options.write_timeout;
  const std::array<asio::const_buffer, 2> buffers = {asio::buffer(output_.bytes),
                                                     asio::buffer(output_.body)};
  asio::async_write(socket_, buffers,
                    [self = shared_from_this()](const ErrorCode& error, std::size_t count) {
                      self->on_write(error, count);
                    });
}

void Connection::on_write(const ErrorCode& error, std::size_t bytes) {
  writing_ = false;
  count(core_.counters.bytes_out, bytes);
  if (closed_) return;
  if (error) return close();
  outbox_.sent();
  if (output_.complete) return finish_answer();
  deadline_ = Clock::time_point::max();
  pump();
}

void Connection::finish_answer() {
  outbox_.finish();
  if (std::exchange(answering_, false)) uncount(core_.counters.exchanges_running);
  if (refused_ || rejected_ || (!output_.keep_alive && !input_.empty())) return linger();
  if (!output_.keep_alive || input_ended_) return close();
  if (core_.draining.load(std::memory_order_relaxed) && input_.empty()) return close();
  enter(Phase::kIdle, core_.options.idle_timeout);
  if (input_.empty() && std::exchange(busy_, false)) core_.busy_end();
  parse();
}

// Closing with input unread makes the kernel send a reset, which may overtake the answer.
void Connection::linger() {
  ErrorCode ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (input_ended_) return close();
  input_.consume(input_.unread().size());
  enter(Phase::kLinger, core_.options.linger_timeout);
  if (std::exchange(busy_, false)) core_.busy_end();
  tick();  // moves the timer: lingering is shorter than a tick
  read();
}

// What the kernel still holds for a client that does not read goes with the connection.
void Connection::cut() {
  if (outbox_.overflowed()) count(core_.counters.streams_overflowed);
  ErrorCode ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

}  // namespace conclave::http
