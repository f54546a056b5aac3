#include "conclave/telemetry/trace.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <iterator>
#include <mutex>
#include <thread>

#include "conclave/base/text.hpp"
#include "otlp.hpp"

namespace conclave::telemetry {

using base::ErrorCode;
using base::fail;
using std::chrono::nanoseconds;

namespace {

constexpr std::string_view kPath = "/v1/traces";
// A collector takes 4 MiB by default; a span has some hundred bytes.
constexpr std::size_t kBatchMax = 512;
// So long a span waits for others to go with it.
constexpr std::chrono::seconds kGather{1};

struct EasyDelete {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct ListDelete {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// Steele et al., "Fast splittable pseudorandom number generators": every state gives another value.
std::uint64_t split_mix(std::uint64_t state) {
  state += 0x9E3779B97F4A7C15u;
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
  return state ^ (state >> 31);
}

std::size_t ignore(char* /*data*/, std::size_t size, std::size_t count, void* /*user*/) {
  return size * count;
}

}  // namespace

class Tracer::Impl {
 public:
  Impl(const TraceSettings& settings, Process process, Metrics& metrics)
      : settings_(settings),
        process_(std::move(process)),
        url_(settings.endpoint + std::string(kPath)),
        exported_(spans(metrics, "exported")),
        dropped_(spans(metrics, "dropped")),
        failed_(spans(metrics, "failed")),
        draws_(split_mix(process_.seed)),
        thread_([this] { work(); }) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wanted_.notify_all();
    thread_.join();
  }

  static Counter& spans(Metrics& metrics, const char* outcome) {
    return metrics.counter("conclave_trace_spans_total", "Spans, by what became of them",
                           {{"outcome", outcome}});
  }

  [[nodiscard]] std::uint32_t steps_max() const { return settings_.steps_max; }

  SpanContext below(const SpanContext& parent) {
    SpanContext context = parent;
    fill(context.span_id);
    context.flags |= 1;
    return context;
  }

  SpanContext root() {
    constexpr double kWhole = 18446744073709551616.0;  // 2^64
    if (static_cast<double>(draw()) >= settings_.sample_ratio * kWhole) return {};
    SpanContext context;
    fill(context.trace_id);
    fill(context.span_id);
    context.flags = 1;
    return context;
  }

  void record(Span span, const std::shared_ptr<const std::string>& service) {
    Recorded recorded{std::move(span), service, 0, 0};
    const auto now = process_.now();
    const auto wall = process_.wall_clock().time_since_epoch();
    const auto unix_ns = [&](Span::TimePoint time) {
      const auto ns = std::chrono::duration_cast<nanoseconds>(wall) -
                      std::chrono::duration_cast<nanoseconds>(now - time);
      return static_cast<std::uint64_t>(std::max<std::int64_t>(ns.count(), 0));
    };
    recorded.begin_unix_ns = unix_ns(recorded.span.begin);
    recorded.end_unix_ns = unix_ns(recorded.span.end);
    std::unique_lock lock(mutex_);
    if (queue_.size() >= settings_.queue_max) return dropped_.add();
    queue_.push_back(std::move(recorded));
    const bool is_wanted = queue_.size() == 1 || queue_.size() == kBatchMax;
    lock.unlock();
    if (is_wanted) wanted_.notify_one();
  }

 private:
  template <std::size_t N>
  void fill(std::array<std::uint8_t, N>& id) {
    do {  // an identifier of zeros only means none
      for (std::size_t i = 0; i < N; i += sizeof(std::uint64_t)) {
        const std::uint64_t bits = draw();
        std::memcpy(&id[i], &bits, sizeof bits);
      }
    } while (id == std::array<std::uint8_t, N>{});
  }
  std::uint64_t draw() { return split_mix(draws_.fetch_add(1, std::memory_order_relaxed)); }

  // Gathers for a moment, unless there is a whole batch or it is the end.
  void work() {
    const std::unique_ptr<CURL, EasyDelete> handle(curl_easy_init());
    std::unique_lock lock(mutex_);
    for (;;) {
      wanted_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      wanted_.wait_for(lock, kGather, [this] { return stop_ || queue_.size() >= kBatchMax; });
      if (queue_.empty()) return;  // told to stop
      const std::size_t count = std::min(queue_.size(), kBatchMax);
      const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(count);
      std::vector<Recorded> batch(std::make_move_iterator(queue_.begin()),
                                  std::make_move_iterator(end));
      queue_.erase(queue_.begin(), end);
      lock.unlock();
      const bool sent = post(handle.get(), otlp_json(batch, process_.node, process_.version));
      (sent ? exported_ : failed_).add(static_cast<double>(count));
      lock.lock();
      if (stop_ && !sent) {  // nobody waits for a collector that is away
        failed_.add(static_cast<double>(queue_.size()));
        queue_.clear();
      }
    }
  }

  [[nodiscard]] bool post(CURL* handle, const std::string& body) const {
    if (process_.send) return process_.send(body);
    if (handle == nullptr) return false;
    const std::unique_ptr<curl_slist, ListDelete> headers(
        curl_slist_append(nullptr, "Content-Type: application/json"));
    curl_easy_setopt(handle, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(settings_.timeout_ms));
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    return curl_easy_perform(handle) == CURLE_OK;
  }

  const TraceSettings settings_;
  const Process process_;
  const std::string url_;
  Counter& exported_;
  Counter& dropped_;
  Counter& failed_;
  std::atomic<std::uint64_t> draws_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wanted_;
  std::vector<Recorded> queue_;
  bool stop_ = false;
  std::thread thread_;
};

base::Result<Tracer> Tracer::create(const TraceSettings& settings, Process process,
                                    Metrics& metrics) {
  for (const char* outcome : {"exported", "dropped", "failed"}) Impl::spans(metrics, outcome);
  if (settings.endpoint.empty()) return Tracer();
  const std::string_view url = settings.endpoint;
  if (!url.starts_with("http://") && !url.starts_with("https://")) {
    return fail(ErrorCode::kInvalidArgument, "tracing.endpoint: " + base::shown(settings.endpoint) +
                                                 " is no http:// or https:// address");
  }
  // Once in a process, before there are threads that use it; a static is initialised by one.
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return fail(ErrorCode::kInternal, curl_easy_strerror(ready));
  TraceSettings own = settings;
  while (own.endpoint.ends_with('/')) own.endpoint.pop_back();
  return Tracer(std::make_shared<Impl>(own, std::move(process), metrics),
                std::make_shared<const std::string>("process"));
}

Tracer Tracer::of(std::string_view service) const {
  if (!enabled()) return {};
  return {impl_, std::make_shared<const std::string>(service)};
}

std::uint32_t Tracer::steps_max() const { return enabled() ? impl_->steps_max() : 0; }

SpanContext Tracer::enter_on(const SpanContext& parent) const {
  if (parent.empty()) return impl_->root();
  return parent.sampled() ? impl_->below(parent) : SpanContext{};
}

SpanContext Tracer::child_on(const SpanContext& parent) const { return impl_->below(parent); }

void Tracer::record_on(Span span) const { impl_->record(std::move(span), service_); }

}  // namespace conclave::telemetry
