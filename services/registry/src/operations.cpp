#include "operations.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <random>
#include <utility>

namespace conclave::registry {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

// No two lives of registries choose the same: 64 random bits.
std::string random_prefix() {
  std::random_device random;
  const std::uint64_t number = (std::uint64_t{random()} << 32) | random();
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "op-";
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(number >> shift) & 15];
  return text + "-";
}

catalog::OperationOutcome outcome_of(const Result<json::value>& outcome) {
  if (!outcome) {
    // As long as a column holds it: messages quote what people sent.
    const std::string& message = outcome.error().message;
    return {{}, std::string(to_string(outcome.error().code)), message.substr(0, 1024)};
  }
  std::string text = json::serialize(*outcome);
  if (text.size() <= catalog::kOperationResultBytesMax) return {std::move(text), {}, {}};
  return {{}, "internal", "it is done, and its result is too long to be kept"};
}

void show_outcome(json::object& shown, const catalog::OperationOutcome& outcome) {
  if (!outcome.error_code.empty()) {
    shown["error"] = {{"code", outcome.error_code}, {"message", outcome.error}};
    return;
  }
  json::error_code error;
  json::value result = json::parse(outcome.result, error);
  if (!error) shown["result"] = std::move(result);
}

}  // namespace

json::object to_json(const catalog::Operation& operation) {
  json::object shown{{"id", operation.id},
                     {"what", operation.what},
                     {"subject", operation.subject},
                     {"owner", operation.owner},
                     {"state", "running"},
                     {"percent", operation.percent},
                     {"started_unix_ms", operation.started_unix_ms},
                     {"ended_unix_ms", operation.ended_unix_ms}};
  if (operation.state == catalog::OperationState::kRunning) return shown;
  shown["state"] = operation.state == catalog::OperationState::kDone ? "done" : "failed";
  show_outcome(shown, operation.outcome);
  return shown;
}

Operations::Operations(catalog::Catalog& catalog, std::string owner, WallClock wall_clock,
                       telemetry::Logger log, std::chrono::milliseconds beat)
    : catalog_(catalog),
      owner_(std::move(owner)),
      wall_clock_(std::move(wall_clock)),
      log_(std::move(log)),
      beat_(beat),
      prefix_(random_prefix()),
      thread_([this] { keep_beating(); }) {
  // Otherwise they look alive for as long as a silence takes.
  if (const auto marked = catalog_.interrupt_former(owner_, now_unix_ms()); !marked) {
    log_.warn("operations_not_interrupted", {{"error", marked.error().to_string()}});
  }
}

void Operations::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::int64_t Operations::now_unix_ms() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(wall_clock_().time_since_epoch())
      .count();
}

Result<Operations::Begun> Operations::begin(std::string what, std::string subject,
                                            std::string request) {
  catalog::NewOperation wanted{{}, std::move(what), std::move(subject), std::move(request), owner_};
  {
    const std::lock_guard lock(mutex_);
    wanted.id = prefix_ + std::to_string(next_++);
  }
  CONCLAVE_TRY(catalog::Operation begun, catalog_.begin_operation(wanted, now_unix_ms()));
  if (begun.id != wanted.id) return Begun{std::move(begun), false};
  {
    const std::lock_guard lock(mutex_);
    mine_[begun.id] = {begun, std::nullopt};
  }
  changed_.notify_all();
  return Begun{std::move(begun), true};
}

void Operations::progress(const std::string& id, unsigned percent) {
  const std::lock_guard lock(mutex_);
  if (const auto found = mine_.find(id); found != mine_.end()) {
    found->second.operation.percent = percent;
  }
}

void Operations::end(const std::string& id, const Result<json::value>& outcome) {
  catalog::OperationOutcome ended = outcome_of(outcome);
  {
    const std::lock_guard lock(mutex_);
    const auto found = mine_.find(id);
    if (found == mine_.end() || found->second.outcome) return;
    found->second.outcome = ended;
  }
  write_end(id, ended);
}

// Kept in memory until it is written; what the catalogue does not know, or refuses for what it
// says, never will be.
void Operations::write_end(const std::string& id, const catalog::OperationOutcome& outcome) {
  const auto written = catalog_.end_operation(id, owner_, outcome, now_unix_ms());
  if (!written) {
    log_.warn("operation_not_written", {{"id", id}, {"error", written.error().to_string()}});
    const ErrorCode code = written.error().code;
    if (code != ErrorCode::kNotFound && code != ErrorCode::kInvalidArgument) return;
  }
  const std::lock_guard lock(mutex_);
  mine_.erase(id);
}

void Operations::keep_beating() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (mine_.empty()) {
      changed_.wait(lock, [this] { return stop_ || !mine_.empty(); });
      continue;
    }
    changed_.wait_for(lock, beat_, [this] { return stop_; });
    if (stop_) return;
    std::vector<catalog::OperationBeat> beats;
    std::map<std::string, catalog::OperationOutcome> ended;
    for (const auto& [id, mine] : mine_) {
      if (mine.outcome) ended[id] = *mine.outcome;
      beats.push_back({id, mine.operation.percent});
    }
    lock.unlock();
    for (const auto& [id, outcome] : ended) write_end(id, outcome);
    if (const auto beaten = catalog_.beat_operations(owner_, beats, now_unix_ms()); !beaten) {
      log_.warn("operations_not_beaten", {{"error", beaten.error().to_string()}});
    }
    lock.lock();
  }
}

Result<json::object> Operations::find(const std::string& id) const {
  auto found = catalog_.find_operation(id, now_unix_ms());
  if (!found && found.error().code != ErrorCode::kUnavailable) return fail(found.error());
  const std::lock_guard lock(mutex_);
  const auto mine = mine_.find(id);
  if (mine == mine_.end()) {
    if (!found) return fail(found.error());
    return to_json(*found);
  }
  catalog::Operation operation = mine->second.operation;
  if (mine->second.outcome) {
    operation.outcome = *mine->second.outcome;
    const bool is_done = operation.outcome.error_code.empty();
    operation.state = is_done ? catalog::OperationState::kDone : catalog::OperationState::kFailed;
    if (is_done) operation.percent = 100;
  }
  return to_json(operation);
}

Result<json::array> Operations::list(std::uint32_t limit) const {
  CONCLAVE_TRY(const auto operations, catalog_.list_operations(limit, now_unix_ms()));
  json::array shown;
  for (const catalog::Operation& operation : operations) shown.push_back(to_json(operation));
  return shown;
}

}  // namespace conclave::registry
