// Plain HTTP on non-blocking sockets: three system calls a request on a connection that stays.
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "bench_http.hpp"
#include "bench_transport.hpp"
#include "descriptor.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kConnectTimeout{5};
constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr int kEventsMax = 64;
// Deadlines are looked at as often, not with every event.
constexpr std::chrono::milliseconds kDeadlinePeriod{50};

struct Address {
  sockaddr_storage socket{};
  socklen_t size = 0;
  std::string authority;  // for the Host field
  std::string path;
};

struct InfoDelete {
  void operator()(addrinfo* info) const { ::freeaddrinfo(info); }
};

base::Result<Address> find(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) {
    return fail(ErrorCode::kInvalidArgument, "no http URL: " + url);
  }
  Address address;
  const auto slash = std::min(url.find('/', kScheme.size()), url.size());
  address.authority = url.substr(kScheme.size(), slash - kScheme.size());
  address.path = slash == url.size() ? "/" : url.substr(slash);
  std::string host = address.authority;
  std::string port = "80";
  if (const auto colon = host.rfind(':');
      colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, InfoDelete> owned(found);
  if (code != 0) return fail(ErrorCode::kUnavailable, url + ": " + ::gai_strerror(code));
  std::memcpy(&address.socket, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  return address;
}

class SocketTransport final : public Transport {
 public:
  SocketTransport(const TransportSettings& settings, Address address, std::size_t slots,
                  AnswerSink& sink, Descriptor epoll)
      : timeout_(settings.timeout),
        address_(std::move(address)),
        sink_(sink),
        epoll_(std::move(epoll)),
        slots_(slots),
        room_(kReadBytes) {
    head_ = "POST " + address_.path + " HTTP/1.1\r\nHost: " + address_.authority + "\r\n";
    for (const http::Header& header : settings.headers) {
      head_ += header.name + ": " + header.value + "\r\n";
    }
    head_ += "Content-Length: ";
  }

  void send(std::size_t index, std::string body) override {
    Slot& slot = slots_[index];
    slot.out = head_ + std::to_string(body.size()) + "\r\n\r\n" + body;
    slot.busy = true;
    slot.fresh = !slot.socket.is_open();
    begin(index);
  }

  void abandon(std::size_t index) override {
    slots_[index].busy = false;
    slots_[index].socket.close();
  }

  void wait(std::chrono::nanoseconds most) override {
    take_failed();
    std::array<epoll_event, kEventsMax> events;
    const timespec limit = until(most);
    const int count = ::epoll_pwait2(epoll_.get(), events.data(), kEventsMax, &limit, nullptr);
    for (int i = 0; i < count; ++i) take(events[static_cast<std::size_t>(i)]);
    check_deadlines();
  }

 private:
  struct Slot {
    Descriptor socket;
    std::string out;
    std::size_t sent = 0;
    HttpAnswer answer;
    SteadyClock::time_point begun;
    bool busy = false;
    bool connected = false;
    bool ending = false;  // the server has closed its side, and said so for the only time
    bool fresh = true;    // this request is the first one of its connection
  };

  timespec until(std::chrono::nanoseconds most) const {
    // What has failed already is told by the next call: do not wait for it.
    if (!failed_.empty()) most = std::chrono::nanoseconds(0);
    most = std::clamp<std::chrono::nanoseconds>(most, std::chrono::nanoseconds(0), kDeadlinePeriod);
    return {.tv_sec = 0, .tv_nsec = static_cast<long>(most.count())};
  }

  void begin(std::size_t index) {
    Slot& slot = slots_[index];
    slot.sent = 0;
    slot.answer.begin();
    slot.begun = SteadyClock::now();
    if (!slot.socket.is_open()) {
      slot.connected = false;
      if (!connect(index)) {
        failed_.push_back({index, std::strerror(errno)});
        return;
      }
    }
    if (slot.connected) write(index);
  }

  // Begins a connection; its events come for all of its life, once for each change.
  bool connect(std::size_t index) {
    Slot& slot = slots_[index];
    slot.socket = Descriptor(
        ::socket(address_.socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!slot.socket.is_open()) return false;
    slot.ending = false;
    const int on = 1;
    ::setsockopt(slot.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const auto* address = reinterpret_cast<const sockaddr*>(&address_.socket);
    if (::connect(slot.socket.get(), address, address_.size) != 0 && errno != EINPROGRESS) {
      return false;
    }
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = index}};
    return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, slot.socket.get(), &event) == 0;
  }

  void write(std::size_t index) {
    Slot& slot = slots_[index];
    while (slot.sent < slot.out.size()) {
      const auto count = ::send(slot.socket.get(), slot.out.data() + slot.sent,
                                slot.out.size() - slot.sent, MSG_NOSIGNAL);
      if (count < 0) return;  // full: an event comes. Broken: reading says so, with an event too
      slot.sent += static_cast<std::size_t>(count);
    }
  }

  void take(const epoll_event& event) {
    const std::size_t index = event.data.u64;
    Slot& slot = slots_[index];
    if (!slot.socket.is_open()) return;
    if (!slot.connected) {
      int problem = 0;
      socklen_t size = sizeof problem;
      ::getsockopt(slot.socket.get(), SOL_SOCKET, SO_ERROR, &problem, &size);
      if (problem != 0) {
        end(index, fail(ErrorCode::kFailedPrecondition, std::strerror(problem)));
        return;
      }
      if ((event.events & EPOLLOUT) == 0) return;
      slot.connected = true;
    }
    if (slot.busy && slot.sent < slot.out.size()) write(index);
    constexpr std::uint32_t kEnded = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    slot.ending = slot.ending || (event.events & kEnded) != 0;
    if (slot.ending || (event.events & EPOLLIN) != 0) read(index, slot.ending);
  }

  // `to_end`: nothing comes after what is there, not even an event.
  void read(std::size_t index, bool to_end) {
    for (;;) {
      Slot& slot = slots_[index];
      const auto count = ::recv(slot.socket.get(), room_.data(), room_.size(), 0);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (!slot.busy) {  // an idle connection ends, or says what nobody asked for
        slot.socket.close();
        return;
      }
      if (count <= 0) {
        lost(index, count < 0 ? std::strerror(errno) : "");
        return;
      }
      if (!take_bytes(index, {room_.data(), static_cast<std::size_t>(count)})) return;
      // A short read has taken all: what comes later is a new event.
      if (!to_end && static_cast<std::size_t>(count) < room_.size()) return;
    }
  }

  // False: the answer has ended, and with it what is known of the slot.
  bool take_bytes(std::size_t index, std::string_view bytes) {
    HttpAnswer& answer = slots_[index].answer;
    for (;;) {
      const auto part = answer.take(bytes);
      if (!part) {
        end(index, fail(part.error()));
        return false;
      }
      if (!part->empty() && !sink_.on_body(index, answer.status(), *part)) {
        end(index, fail(ErrorCode::kCancelled, "not wanted any more"));
        return false;
      }
      if (answer.whole()) {
        end(index, answer.status());
        return false;
      }
      if (part->empty()) return true;
    }
  }

  void lost(std::size_t index, const char* reason) {
    Slot& slot = slots_[index];
    // The server closed an idle connection as we wrote to it: as browsers do, once more.
    if (!slot.fresh && !slot.answer.begun()) {
      slot.socket.close();
      slot.fresh = true;
      begin(index);
      return;
    }
    const base::Status whole = slot.answer.end();
    if (whole) {
      end(index, slot.answer.status());
    } else {
      end(index, fail(ErrorCode::kUnavailable,
                      *reason == '\0' ? whole.error().message : std::string(reason)));
    }
  }

  void end(std::size_t index, base::Result<unsigned> status) {
    Slot& slot = slots_[index];
    slot.busy = false;
    if (!status || !slot.answer.stays_open() || slot.ending) slot.socket.close();
    sink_.on_end(index, std::move(status));
  }

  // Connections that did not even begin: told from wait(), as all is.
  void take_failed() {
    for (const auto& [index, reason] : std::exchange(failed_, {})) {
      end(index, fail(ErrorCode::kFailedPrecondition, reason));
    }
  }

  void check_deadlines() {
    const auto now = SteadyClock::now();
    if (now < checked_ + kDeadlinePeriod) return;
    checked_ = now;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const Slot& slot = slots_[i];
      if (!slot.busy || !slot.socket.is_open()) continue;
      if (!slot.connected && now > slot.begun + kConnectTimeout) {
        end(i, fail(ErrorCode::kFailedPrecondition, "the server does not accept connections"));
      } else if (timeout_.count() > 0 && now > slot.begun + timeout_) {
        end(i, fail(ErrorCode::kDeadlineExceeded,
                    "no whole answer after " + std::to_string(timeout_.count()) + " ms"));
      }
    }
  }

  std::chrono::milliseconds timeout_;
  Address address_;
  AnswerSink& sink_;
  Descriptor epoll_;
  std::string head_;
  std::vector<Slot> slots_;
  std::vector<std::pair<std::size_t, std::string>> failed_;
  std::vector<char> room_;
  SteadyClock::time_point checked_;
};

}  // namespace

base::Result<std::unique_ptr<Transport>> socket_transport(const TransportSettings& settings,
                                                          std::size_t slots, AnswerSink& sink) {
  CONCLAVE_TRY(Address address, find(settings.url));
  Descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.is_open()) return fail(ErrorCode::kUnavailable, std::strerror(errno));
  return std::make_unique<SocketTransport>(settings, std::move(address), slots, sink,
                                           std::move(epoll));
}

}  // namespace conclave::cli
