#include "admin_operation.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "conclave/telemetry/progress_bar.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kFirstPause{10};
constexpr std::chrono::milliseconds kLongestPause{500};
constexpr std::chrono::seconds kPatience{30};
constexpr unsigned kAccepted = 202;

// A pause that nothing ends early: the server tells of an operation only when it is asked.
void pause(std::chrono::milliseconds time) {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, time, [] { return false; });
}

bool is_passing(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kDeadlineExceeded ||
         code == ErrorCode::kOverloaded;
}

// What an operation that failed says, with the code it names.
base::Error failure_of(const json::value& operation) {
  std::string message = cell(operation, "/error/message");
  if (message.empty()) message = cell(operation, "/error");
  if (message.empty()) message = "the operation failed";
  const std::string code = cell(operation, "/error/code");
  for (int number = 1; number <= base::kErrorCodeCount; ++number) {
    const auto known = static_cast<ErrorCode>(number);
    if (code == base::to_string(known)) return {known, std::move(message)};
  }
  return {ErrorCode::kUnavailable, std::move(message)};
}

}  // namespace

Result<json::value> await_operation(const AdminClient& client, const AdminAnswer& begun,
                                    const std::function<void(unsigned percent)>& progress) {
  if (begun.status != kAccepted) return begun.body;
  const std::string id = cell(begun.body, "/id");
  if (id.empty()) return fail(ErrorCode::kCorruptData, "the server names no operation");
  const std::string path = admin_path({"operations", id});
  std::chrono::milliseconds wait = kFirstPause;
  Clock::time_point heard = Clock::now();
  for (json::value operation = begun.body;;) {
    const std::string state = cell(operation, "/state");
    if (state == "failed") return fail(failure_of(operation));
    if (state == "done") {
      const json::object& object = operation.as_object();
      return object.contains("result") ? object.at("result") : json::value();
    }
    unsigned percent = 0;
    const json::value* told =
        operation.is_object() ? operation.get_object().if_contains("percent") : nullptr;
    boost::system::error_code none;
    if (told != nullptr) percent = std::min(100U, told->to_number<unsigned>(none));
    progress(percent);
    pause(wait);
    wait = std::min(2 * wait, kLongestPause);
    auto answer = client.get(path);
    if (answer) {
      operation = std::move(answer->body);
      heard = Clock::now();
    } else if (!is_passing(answer.error().code) || Clock::now() - heard > kPatience) {
      return fail(answer.error());
    }
  }
}

Result<AdminAnswer> run_operation(const AdminClient& client, const AdminCall& call,
                                  const std::string& label) {
  CONCLAVE_TRY(AdminAnswer begun, client.call(call));
  telemetry::ProgressBar bar(label);
  CONCLAVE_TRY(json::value result, await_operation(client, begun, [&bar](unsigned percent) {
                 bar.update(percent, 100);
               }));
  return AdminAnswer{.status = 200, .body = std::move(result), .etag = "", .stale = false};
}

}  // namespace conclave::cli
