#include "conclave/http/server.hpp"

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "conclave/base/check.hpp"
#include "connection.hpp"
#include "event_loop.hpp"
#include "server_core.hpp"

namespace conclave::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// Connections that get a 503 at the same time, each for linger_timeout at most; a flood beyond
// them is closed without a word.
constexpr std::uint64_t kRefusalsMax = 64;

// When the system has no descriptor or memory left for a connection: until the next try.
constexpr std::chrono::milliseconds kAcceptRetry{50};

base::Status check(const ServerOptions& options) {
  using base::ErrorCode;
  using std::chrono::milliseconds;
  constexpr std::size_t kHeaderBytesLeast = 256;
  const milliseconds shortest =
      std::min({options.header_timeout, options.body_timeout, options.idle_timeout,
                options.write_timeout, options.linger_timeout});
  if (shortest <= milliseconds::zero()) {
    return base::fail(ErrorCode::kInvalidArgument, "every timeout must be above zero");
  }
  if (options.threads == 0 || options.connections_max == 0) {
    return base::fail(ErrorCode::kInvalidArgument, "threads and connections_max must be above 0");
  }
  if (options.header_bytes_max < kHeaderBytesLeast) {
    return base::fail(ErrorCode::kInvalidArgument, "header_bytes_max must be at least 256");
  }
  return {};
}

base::Result<tcp::acceptor> listen(asio::io_context& io, const ServerOptions& options) {
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      "'" + options.address + "' is no IPv4 or IPv6 address");
  }
  const tcp::endpoint endpoint(address, options.port);
  tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error && address.is_v6()) acceptor.set_option(asio::ip::v6_only(false), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return base::fail(base::ErrorCode::kUnavailable, "cannot listen on " + options.address +
                                                         " port " + std::to_string(options.port) +
                                                         ": " + error.message());
  }
  return acceptor;
}

class ServerImpl final : public Server {
 public:
  using Loops = std::vector<std::shared_ptr<EventLoop>>;

  ServerImpl(std::shared_ptr<ServerCore> core, Loops loops, tcp::acceptor acceptor)
      : core_(std::move(core)),
        loops_(std::move(loops)),
        acceptor_(std::move(acceptor)),
        retry_(loops_.front()->io),
        port_(acceptor_.local_endpoint().port()) {}

  ServerImpl(const ServerImpl&) = delete;
  ServerImpl& operator=(const ServerImpl&) = delete;

  ~ServerImpl() override {
    for (const auto& loop : loops_) {
      if (!loop->thread.joinable()) continue;
      // The first loop owns the acceptor: once it has stopped, no other gets new connections.
      asio::post(loop->io, [this, &loop] { stop(*loop); });
      loop->thread.join();
    }
  }

  base::Status run() {
    accept();
    try {  // the accepting loop last: it may hand connections to any other
      for (auto loop = loops_.rbegin(); loop != loops_.rend(); ++loop) {
        (*loop)->thread = std::thread([&io = (*loop)->io] { io.run(); });
      }
    } catch (const std::system_error& error) {
      return base::fail(base::ErrorCode::kUnavailable,
                        std::string("cannot start a thread: ") + error.what());
    }
    return {};
  }

  [[nodiscard]] std::uint16_t port() const override { return port_; }

  void drain() override {
    core_->draining.store(true, std::memory_order_relaxed);
    for (const auto& loop : loops_) {
      asio::post(loop->io, [this, raw = loop.get()] {
        if (raw == loops_.front().get()) stop_accepting();
        for (const auto& connection : all(*raw)) connection->drain();
      });
    }
  }

  bool wait_idle(std::chrono::steady_clock::time_point deadline) override {
    return core_->wait_idle(deadline);
  }

  [[nodiscard]] ServerStats stats() const override { return core_->stats(); }

 private:
  // Closing one takes it out of the set.
  static std::vector<std::shared_ptr<Connection>> all(const EventLoop& loop) {
    std::vector<std::shared_ptr<Connection>> connections;
    for (Connection* connection : loop.connections) {
      connections.push_back(connection->shared_from_this());
    }
    return connections;
  }

  void stop(EventLoop& loop) {
    if (&loop == loops_.front().get()) stop_accepting();
    loop.stopping = true;
    for (const auto& connection : all(loop)) connection->close();
    loop.work.reset();
  }

  void stop_accepting() {
    error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
  }

  // The functions below run on the first loop's thread (or before it starts).

  void accept() {
    if (!acceptor_.is_open()) return;
    EventLoop& loop = *loops_[next_loop_];
    acceptor_.async_accept(loop.io, [this, &loop](const error_code& error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) return accept_later();
      next_loop_ = (next_loop_ + 1) % loops_.size();
      admit(loop, std::move(socket));
      accept();
    });
  }

  void accept_later() {
    retry_.expires_after(kAcceptRetry);
    retry_.async_wait([this](const error_code& cancelled) {
      if (!cancelled) accept();
    });
  }

  void admit(EventLoop& loop, tcp::socket socket) {
    auto& counters = core_->counters;
    const bool refused = counters.connections_open.load() >= core_->options.connections_max;
    count(refused ? counters.connections_refused : counters.connections_accepted);
    if (refused && counters.refusals_open.load() >= kRefusalsMax) return;
    count(refused ? counters.refusals_open : counters.connections_open);
    asio::dispatch(loop.io, [&loop, refused, socket = std::move(socket)]() mutable {
      const auto connection =
          std::make_shared<Connection>(loop.shared_from_this(), std::move(socket));
      refused ? connection->refuse() : connection->serve();
    });
  }

  const std::shared_ptr<ServerCore> core_;
  const Loops loops_;
  tcp::acceptor acceptor_;  // of the first loop, as is retry_
  asio::steady_timer retry_;
  const std::uint16_t port_;
  std::size_t next_loop_ = 0;  // gets the next connection
};

}  // namespace

base::Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, Handler handler) {
  CONCLAVE_CHECK(handler != nullptr);
  CONCLAVE_TRY_VOID(check(options));
  auto core = std::make_shared<ServerCore>(options, std::move(handler));
  ServerImpl::Loops loops;
  for (unsigned i = 0; i < options.threads; ++i) loops.push_back(std::make_shared<EventLoop>(core));
  CONCLAVE_TRY(auto acceptor, listen(loops.front()->io, options));
  auto server =
      std::make_unique<ServerImpl>(std::move(core), std::move(loops), std::move(acceptor));
  CONCLAVE_TRY_VOID(server->run());
  return server;
}

}  // namespace conclave::http
