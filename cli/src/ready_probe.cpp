#include "ready_probe.hpp"

#include <boost/json.hpp>
#include <chrono>
#include <utility>

#include "conclave/http/client.hpp"

namespace conclave::cli {

namespace json = boost::json;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kPause{200};
constexpr milliseconds kPauseWhenReady{1'000};
constexpr milliseconds kTimeout{2'000};
constexpr std::size_t kReasonBytesMax = 4096;

// {"ready":false,"reason":".."}, or {"error":{"message":".."}}; whatever else it says as it is.
std::string reason_in(const std::string& body) {
  boost::system::error_code error;
  const json::value value = json::parse(body, error);
  if (error) return body;
  for (const char* path : {"/reason", "/error/message"}) {
    boost::system::error_code absent;
    const json::value* found = value.find_pointer(path, absent);
    if (found != nullptr && found->is_string()) return std::string(found->get_string());
  }
  return body;
}

}  // namespace

ReadyProbe::ReadyProbe(std::string url)
    : url_(std::move(url)), thread_([this](const std::stop_token& stop) { ask_again(stop); }) {}

std::optional<ReadyProbe::State> ReadyProbe::changed() {
  const std::lock_guard lock(mutex_);
  if (now_ == told_) return {};
  told_ = now_;
  return told_;
}

void ReadyProbe::ask_again(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    lock.unlock();
    const auto answer = http::fetch({.url = url_,
                                     .timeout = kTimeout,
                                     .connect_timeout = kTimeout,
                                     .body_bytes_max = kReasonBytesMax,
                                     .stop = stop});
    State state{answer && answer->status == 200, ""};
    if (answer && !state.ready) state.reason = reason_in(answer->body);
    lock.lock();
    now_ = std::move(state);
    stopped_.wait_for(lock, stop, now_.ready ? kPauseWhenReady : kPause, [] { return false; });
  }
}

}  // namespace conclave::cli
