// http and https over libcurl's event interface.
#include <curl/curl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <new>
#include <optional>
#include <utility>

#include "bench_transport.hpp"
#include "descriptor.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using SteadyClock = std::chrono::steady_clock;

constexpr int kEventsMax = 64;

struct EasyDelete {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct MultiDelete {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct ListDelete {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

ErrorCode code_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
      return ErrorCode::kFailedPrecondition;
    case CURLE_OPERATION_TIMEDOUT:
      return ErrorCode::kDeadlineExceeded;
    case CURLE_WRITE_ERROR:
      return ErrorCode::kCancelled;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
      return ErrorCode::kCorruptData;
    default:
      return ErrorCode::kUnavailable;
  }
}

class CurlTransport final : public Transport {
 public:
  CurlTransport(const TransportSettings& settings, AnswerSink& sink)
      : settings_(settings), sink_(sink) {}

  base::Status open(std::size_t slots) {
    // Once in a process; a function's static is initialised by one thread.
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
    multi_.reset(curl_multi_init());
    if (ready != CURLE_OK || !epoll_.is_open() || !multi_) return cannot();
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &CurlTransport::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &CurlTransport::on_timer);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(slots));
    for (const http::Header& header : settings_.headers) {
      add_header(header.name + ": " + header.value);
    }
    add_header("Expect:");  // waiting for `100 Continue` would cost a round trip
    for (std::size_t i = 0; i < slots; ++i) {
      slots_.push_back(std::make_unique<Slot>(*this, i));
      if (!slots_.back()->easy) return cannot();
      set_up(*slots_.back());
    }
    return {};
  }

  ~CurlTransport() override {
    for (std::size_t i = 0; i < slots_.size(); ++i) abandon(i);
  }

  void send(std::size_t index, std::string body) override {
    Slot& slot = *slots_[index];
    slot.body = std::move(body);
    slot.status = 0;
    slot.error[0] = '\0';
    slot.busy = true;
    curl_easy_setopt(slot.easy.get(), CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(slot.body.size()));
    curl_easy_setopt(slot.easy.get(), CURLOPT_POSTFIELDS, slot.body.data());
    curl_multi_add_handle(multi_.get(), slot.easy.get());
  }

  void abandon(std::size_t index) override {
    Slot& slot = *slots_[index];
    if (std::exchange(slot.busy, false)) curl_multi_remove_handle(multi_.get(), slot.easy.get());
  }

  void wait(std::chrono::nanoseconds most) override {
    std::array<epoll_event, kEventsMax> events;
    const timespec limit = until(most);
    const int count = ::epoll_pwait2(epoll_.get(), events.data(), kEventsMax, &limit, nullptr);
    int running = 0;
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      const int what = ((event.events & (EPOLLIN | EPOLLHUP)) != 0 ? CURL_CSELECT_IN : 0) |
                       ((event.events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                       ((event.events & EPOLLERR) != 0 ? CURL_CSELECT_ERR : 0);
      curl_multi_socket_action(multi_.get(), event.data.fd, what, &running);
    }
    if (timer_ && SteadyClock::now() >= *timer_) {
      timer_.reset();
      curl_multi_socket_action(multi_.get(), CURL_SOCKET_TIMEOUT, 0, &running);
    }
    take_ended();
  }

 private:
  struct Slot {
    Slot(CurlTransport& transport, std::size_t place)
        : owner(&transport), index(place), easy(curl_easy_init()) {}

    CurlTransport* owner;
    std::size_t index;
    std::unique_ptr<CURL, EasyDelete> easy;
    std::array<char, CURL_ERROR_SIZE> error{};
    std::string body;
    unsigned status = 0;  // 0: no byte of the answer's body yet
    bool busy = false;
  };

  static base::Status cannot() {
    return fail(ErrorCode::kUnavailable, "the HTTP client cannot be set up");
  }

  void add_header(const std::string& line) {
    curl_slist* longer = curl_slist_append(headers_.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)headers_.release();
    headers_.reset(longer);
  }

  void set_up(Slot& slot) {
    CURL* easy = slot.easy.get();
    curl_easy_setopt(easy, CURLOPT_URL, settings_.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(settings_.timeout.count()));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 5'000L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot.error.data());
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &CurlTransport::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &slot);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &slot);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
  }

  [[nodiscard]] timespec until(std::chrono::nanoseconds most) const {
    constexpr std::chrono::nanoseconds kNone{0};
    if (timer_) most = std::min<std::chrono::nanoseconds>(most, *timer_ - SteadyClock::now());
    most = std::max(most, kNone);
    const auto whole = std::chrono::floor<std::chrono::seconds>(most);
    return {.tv_sec = whole.count(), .tv_nsec = static_cast<long>((most - whole).count())};
  }

  void take_ended() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      Slot* slot = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &slot);
      abandon(slot->index);
      if (code == CURLE_OK) {
        sink_.on_end(slot->index, status_of(*slot));
      } else {
        sink_.on_end(slot->index,
                     fail(code_of(code),
                          slot->error[0] != '\0' ? slot->error.data() : curl_easy_strerror(code)));
      }
    }
  }

  static unsigned status_of(const Slot& slot) {
    long value = 0;
    curl_easy_getinfo(slot.easy.get(), CURLINFO_RESPONSE_CODE, &value);
    return static_cast<unsigned>(value);
  }

  // curl takes any other count than `size` as the wish to end.
  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* context) {
    Slot& slot = *static_cast<Slot*>(context);
    if (slot.status == 0) slot.status = status_of(slot);
    return slot.owner->sink_.on_body(slot.index, slot.status, {data, size}) ? size : size + 1;
  }

  static int on_socket(CURL*, curl_socket_t socket, int what, void* context, void* known) {
    CurlTransport& transport = *static_cast<CurlTransport*>(context);
    if (what == CURL_POLL_REMOVE) {
      ::epoll_ctl(transport.epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.data.fd = socket;
    if ((what & CURL_POLL_IN) != 0) event.events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0) event.events |= EPOLLOUT;
    ::epoll_ctl(transport.epoll_.get(), known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket,
                &event);
    if (known == nullptr) curl_multi_assign(transport.multi_.get(), socket, context);
    return 0;
  }

  static int on_timer(CURLM*, long after_ms, void* context) {
    auto& timer = static_cast<CurlTransport*>(context)->timer_;
    if (after_ms < 0) {
      timer.reset();
    } else {
      timer = SteadyClock::now() + std::chrono::milliseconds(after_ms);
    }
    return 0;
  }

  TransportSettings settings_;
  AnswerSink& sink_;
  std::unique_ptr<curl_slist, ListDelete> headers_;
  Descriptor epoll_;
  std::optional<SteadyClock::time_point> timer_;  // when curl wants to be called
  std::unique_ptr<CURLM, MultiDelete> multi_;     // calls on_socket and on_timer as it ends
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace

base::Result<std::unique_ptr<Transport>> curl_transport(const TransportSettings& settings,
                                                        std::size_t slots, AnswerSink& sink) {
  auto transport = std::make_unique<CurlTransport>(settings, sink);
  CONCLAVE_TRY_VOID(transport->open(slots));
  return transport;
}

}  // namespace conclave::cli
