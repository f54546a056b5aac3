#include "bench_client.hpp"

#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "chat_stream.hpp"
#include "descriptor.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using SteadyClock = std::chrono::steady_clock;

// How late an interrupt may be noticed.
constexpr int kWaitMs = 100;
// A server that is gone refuses thousands of connections a second: no use in counting them.
constexpr unsigned kRefusalsMax = 100;
// The explanation of an error.
constexpr std::size_t kErrorBytesMax = std::size_t{64} << 10;
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

std::string kind_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
      return "no connection";
    case CURLE_OPERATION_TIMEDOUT:
      return "timeout";
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
      return "no HTTP";
    default:
      return "connection lost";
  }
}

}  // namespace

class LoadClient::Impl {
 public:
  explicit Impl(Settings settings) : settings_(std::move(settings)) {}

  base::Status open() {
    // Once in a process; a function's static is initialised by one thread.
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_.reset(curl_multi_init());
    epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
    alarm_ = Descriptor(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (ready != CURLE_OK || !multi_ || !epoll_.is_open() || !alarm_.is_open()) {
      return fail(ErrorCode::kUnavailable, "the HTTP client cannot be set up");
    }
    epoll_event event{.events = EPOLLIN, .data = {.fd = alarm_.get()}};
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, alarm_.get(), &event);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &Impl::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &Impl::on_timer);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(kConnectionsMax));
    for (const http::Header& header : settings_.headers)
      add_header(header.name + ": " + header.value);
    add_header("Expect:");  // waiting for `100 Continue` would cost a round trip
    return {};
  }

  ~Impl() {
    for (const auto& slot : slots_) curl_multi_remove_handle(multi_.get(), slot->easy.get());
  }

  base::Result<double> run(const LoadPlan& plan, const Body& body, LoadTally& tally,
                           const std::stop_token& stop, const Progress& progress) {
    CONCLAVE_TRY_VOID(make_slots(plan.connections));
    Pacer pacer(plan);
    tally_ = &tally;
    start_ = SteadyClock::now();
    ended_ = 0;
    refusals_ = 0;
    while (!stop.stop_requested() && refusals_ < kRefusalsMax) {
      const std::optional<double> due = send_due(pacer, body);
      if (!due && idle_.size() == slots_.size()) break;
      set_alarm(due);
      wait();
      if (take_ended()) progress(ended_);
    }
    const double seconds = now();
    give_up();
    if (refusals_ >= kRefusalsMax) {
      return fail(ErrorCode::kUnavailable, settings_.url + ": " + last_error_);
    }
    return seconds;
  }

 private:
  struct Slot {
    explicit Slot(Impl& owner) : client(&owner), easy(curl_easy_init()) {}

    Impl* client;
    std::unique_ptr<CURL, EasyDelete> easy;
    std::array<char, CURL_ERROR_SIZE> error{};
    std::string body;
    AnswerReader answer;
    base::Status read;        // what the reader said
    std::string explanation;  // the body of an answer that is an error
    unsigned status = 0;      // 0: no byte of the body yet
    double due_s = 0.0;
    bool busy = false;
  };

  [[nodiscard]] double now() const {
    return std::chrono::duration<double>(SteadyClock::now() - start_).count();
  }

  void add_header(const std::string& line) {
    curl_slist* longer = curl_slist_append(headers_.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)headers_.release();
    headers_.reset(longer);
  }

  base::Status make_slots(std::size_t count) {
    while (slots_.size() < count) {
      auto slot = std::make_unique<Slot>(*this);
      if (!slot->easy) return fail(ErrorCode::kUnavailable, "the HTTP client cannot be set up");
      set_up(*slot);
      slots_.push_back(std::move(slot));
    }
    slots_.resize(count);
    idle_.clear();
    for (const auto& slot : slots_) idle_.push_back(slot.get());
    return {};
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
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Impl::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &slot);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &slot);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
  }

  // Sends what is due and has a connection. Returns when the next request is due that has one;
  // none: it is an answer that must come first.
  std::optional<double> send_due(Pacer& pacer, const Body& body) {
    while (!idle_.empty()) {
      const double at = now();
      const std::optional<double> due = pacer.next_due(at);
      if (!due || *due > at) return due;
      Slot& slot = *idle_.back();
      idle_.pop_back();
      slot.body = body(pacer.count());
      send(slot, *due);
      pacer.sent();
    }
    return std::nullopt;
  }

  void send(Slot& slot, double due_s) {
    slot.answer.begin(settings_.stream);
    slot.read = {};
    slot.explanation.clear();
    slot.status = 0;
    slot.error[0] = '\0';
    slot.due_s = due_s;
    slot.busy = true;
    curl_easy_setopt(slot.easy.get(), CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(slot.body.size()));
    curl_easy_setopt(slot.easy.get(), CURLOPT_POSTFIELDS, slot.body.data());
    curl_multi_add_handle(multi_.get(), slot.easy.get());
  }

  // The next arrival, finer than the milliseconds of epoll.
  void set_alarm(std::optional<double> due) {
    if (due == alarm_at_) return;
    alarm_at_ = due;
    itimerspec when{};  // zero: none
    if (due) {
      const double left = std::max(*due - now(), 1e-9);
      when.it_value.tv_sec = static_cast<time_t>(left);
      when.it_value.tv_nsec = std::max(static_cast<long>((left - std::floor(left)) * 1e9), 1L);
    }
    ::timerfd_settime(alarm_.get(), 0, &when, nullptr);
  }

  void wait() {
    std::array<epoll_event, kEventsMax> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, wait_ms());
    int running = 0;
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.fd == alarm_.get()) {
        std::uint64_t rings = 0;
        [[maybe_unused]] const auto read = ::read(alarm_.get(), &rings, sizeof rings);
        continue;
      }
      const int what = ((event.events & (EPOLLIN | EPOLLHUP)) != 0 ? CURL_CSELECT_IN : 0) |
                       ((event.events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                       ((event.events & EPOLLERR) != 0 ? CURL_CSELECT_ERR : 0);
      curl_multi_socket_action(multi_.get(), event.data.fd, what, &running);
    }
    if (timer_ && SteadyClock::now() >= *timer_) {
      timer_.reset();
      curl_multi_socket_action(multi_.get(), CURL_SOCKET_TIMEOUT, 0, &running);
    }
  }

  [[nodiscard]] int wait_ms() const {
    if (!timer_) return kWaitMs;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*timer_ - SteadyClock::now());
    return static_cast<int>(std::clamp<long>(left.count(), 0, kWaitMs));
  }

  bool take_ended() {
    bool any = false;
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      Slot* slot = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &slot);
      curl_multi_remove_handle(multi_.get(), message->easy_handle);
      end(*slot, code);
      slot->busy = false;
      idle_.push_back(slot);
      ++ended_;
      any = true;
    }
    return any;
  }

  void end(Slot& slot, CURLcode code) {
    const double at = now();
    if (!slot.read) {  // it made us end the transfer
      failed(slot.read.error().code == ErrorCode::kCorruptData ? "broken answer"
                                                               : "error in the stream",
             slot.read.error().message);
      return;
    }
    if (code != CURLE_OK) {
      refusals_ = code == CURLE_COULDNT_CONNECT ? refusals_ + 1 : 0;
      failed(kind_of(code), slot.error[0] != '\0' ? slot.error.data() : curl_easy_strerror(code));
      return;
    }
    refusals_ = 0;
    const unsigned status = status_of(slot);
    if (status < 200 || status > 299) {
      http::Response response;
      response.status = status;
      response.body = std::move(slot.explanation);
      failed("status " + std::to_string(status), server_error(response).message);
    } else if (const base::Status whole = slot.answer.end(); !whole) {
      failed("broken answer", whole.error().message);
    } else {
      tally_->completed(slot.due_s, at, slot.answer, settings_.prompt_tokens);
    }
  }

  void failed(const std::string& kind, const std::string& message) {
    last_error_ = message;
    tally_->failed(kind, message);
  }

  void give_up() {
    for (const auto& slot : slots_) {
      if (!slot->busy) continue;
      curl_multi_remove_handle(multi_.get(), slot->easy.get());
      slot->busy = false;
      tally_->unfinished();
    }
    set_alarm(std::nullopt);
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
    if (slot.status >= 200 && slot.status <= 299) {
      slot.read = slot.answer.push({data, size}, slot.client->now());
      return slot.read ? size : size + 1;
    }
    slot.explanation.append(data, std::min(size, kErrorBytesMax - slot.explanation.size()));
    return size;
  }

  static int on_socket(CURL*, curl_socket_t socket, int what, void* context, void* known) {
    Impl& client = *static_cast<Impl*>(context);
    if (what == CURL_POLL_REMOVE) {
      ::epoll_ctl(client.epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.data.fd = socket;
    if ((what & CURL_POLL_IN) != 0) event.events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0) event.events |= EPOLLOUT;
    ::epoll_ctl(client.epoll_.get(), known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket,
                &event);
    if (known == nullptr) curl_multi_assign(client.multi_.get(), socket, context);
    return 0;
  }

  static int on_timer(CURLM*, long after_ms, void* context) {
    auto& timer = static_cast<Impl*>(context)->timer_;
    if (after_ms < 0) {
      timer.reset();
    } else {
      timer = SteadyClock::now() + std::chrono::milliseconds(after_ms);
    }
    return 0;
  }

  Settings settings_;
  std::unique_ptr<curl_slist, ListDelete> headers_;
  Descriptor epoll_;
  Descriptor alarm_;
  std::optional<SteadyClock::time_point> timer_;  // when curl wants to be called
  std::unique_ptr<CURLM, MultiDelete> multi_;     // calls on_socket and on_timer as it ends
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> idle_;
  std::optional<double> alarm_at_;

  // The run at hand.
  LoadTally* tally_ = nullptr;
  SteadyClock::time_point start_;
  std::uint64_t ended_ = 0;
  unsigned refusals_ = 0;  // in a row
  std::string last_error_;
};

LoadClient::LoadClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoadClient::LoadClient(LoadClient&&) noexcept = default;
LoadClient::~LoadClient() = default;

base::Result<LoadClient> LoadClient::create(Settings settings) {
  auto impl = std::make_unique<Impl>(std::move(settings));
  CONCLAVE_TRY_VOID(impl->open());
  return LoadClient(std::move(impl));
}

base::Result<double> LoadClient::run(const LoadPlan& plan, const Body& body, LoadTally& tally,
                                     const std::stop_token& stop, const Progress& progress) {
  return impl_->run(plan, body, tally, stop, progress);
}

}  // namespace conclave::cli
