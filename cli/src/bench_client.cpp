#include "bench_client.hpp"

#include <algorithm>
#include <utility>

#include "chat_stream.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;

namespace {

// How late an interrupt may be noticed.
constexpr std::chrono::nanoseconds kWaitMost = std::chrono::milliseconds(100);
// A server that is gone refuses thousands of connections a second: no use in counting them.
constexpr unsigned kRefusalsMax = 100;
// The explanation of an error.
constexpr std::size_t kErrorBytesMax = std::size_t{64} << 10;

std::string kind_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailedPrecondition:
      return "no connection";
    case ErrorCode::kDeadlineExceeded:
      return "timeout";
    case ErrorCode::kCorruptData:
      return "no HTTP";
    default:
      return "connection lost";
  }
}

}  // namespace

LoadClient::LoadClient(LoadClientOptions options, const LoadPlan& plan, LoadTally& tally)
    : options_(std::move(options)), tally_(tally), pacer_(plan), slots_(plan.connections) {
  for (std::size_t i = 0; i < slots_.size(); ++i) idle_.push_back(slots_.size() - 1 - i);
}

double LoadClient::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

base::Result<std::unique_ptr<Transport>> LoadClient::connect() {
  if (options_.always_curl || !options_.endpoint.url.starts_with("http://")) {
    return curl_transport(options_.endpoint, slots_.size(), *this);
  }
  return socket_transport(options_.endpoint, slots_.size(), *this);
}

base::Result<double> LoadClient::run(const Body& body, const std::stop_token& stop,
                                     const Progress& progress) {
  CONCLAVE_TRY(transport_, connect());
  start_ = std::chrono::steady_clock::now();
  while (!stop.stop_requested() && refusals_ < kRefusalsMax) {
    const std::optional<double> due = send_due(body);
    if (!due && idle_.size() == slots_.size()) break;
    auto most = kWaitMost;
    if (due) {
      const std::chrono::duration<double> left(std::clamp(*due - now(), 0.0, 1.0));
      most = std::min(most, std::chrono::duration_cast<std::chrono::nanoseconds>(left));
    }
    transport_->wait(most);
    progress(ended_);
  }
  const double seconds = now();
  give_up();
  if (refusals_ >= kRefusalsMax) {
    return fail(ErrorCode::kUnavailable, options_.endpoint.url + ": " + last_problem_);
  }
  return seconds;
}

// Sends what is due and has a connection. Returns when the next request that has one is due; none:
// an answer must come first.
std::optional<double> LoadClient::send_due(const Body& body) {
  while (!idle_.empty()) {
    const double at = now();
    const std::optional<double> due = pacer_.next_due(at);
    if (!due || *due > at) return due;
    const std::size_t index = idle_.back();
    idle_.pop_back();
    Slot& slot = slots_[index];
    slot.answer.begin(options_.stream);
    slot.read = {};
    slot.explanation.clear();
    slot.due_s = *due;
    slot.busy = true;
    transport_->send(index, body(pacer_.count()));
    pacer_.sent();
  }
  return std::nullopt;
}

bool LoadClient::on_body(std::size_t index, unsigned status, std::string_view bytes) {
  Slot& slot = slots_[index];
  if (status >= 200 && status <= 299) {
    slot.read = slot.answer.push(bytes, now());
    return slot.read.has_value();
  }
  slot.explanation.append(bytes.substr(0, kErrorBytesMax - slot.explanation.size()));
  return true;
}

void LoadClient::on_end(std::size_t index, base::Result<unsigned> status) {
  Slot& slot = slots_[index];
  count(slot, status);
  slot.busy = false;
  idle_.push_back(index);
  ++ended_;
}

void LoadClient::count(Slot& slot, const base::Result<unsigned>& status) {
  if (!slot.read) {  // it made us end the answer
    const bool broken = slot.read.error().code == ErrorCode::kCorruptData;
    fail_with(broken ? "broken answer" : "error in the stream", slot.read.error().message);
    return;
  }
  if (!status) {
    const ErrorCode code = status.error().code;
    refusals_ = code == ErrorCode::kFailedPrecondition ? refusals_ + 1 : 0;
    fail_with(kind_of(code), status.error().message);
    return;
  }
  refusals_ = 0;
  if (*status < 200 || *status > 299) {
    http::Response response;
    response.status = *status;
    response.body = std::move(slot.explanation);
    fail_with("status " + std::to_string(*status), server_error(response).message);
  } else if (const base::Status whole = slot.answer.end(); !whole) {
    fail_with("broken answer", whole.error().message);
  } else {
    tally_.completed(slot.due_s, now(), slot.answer, options_.prompt_tokens);
  }
}

void LoadClient::fail_with(const std::string& kind, const std::string& message) {
  last_problem_ = message;
  tally_.failed(kind, message);
}

void LoadClient::give_up() {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].busy) continue;
    transport_->abandon(i);
    tally_.unfinished();
  }
}

}  // namespace conclave::cli
