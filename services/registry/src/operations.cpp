#include "operations.hpp"

#include <boost/json/object.hpp>
#include <utility>

namespace conclave::registry {

namespace json = boost::json;

std::string Operations::begin(std::string what, std::string subject) {
  const std::lock_guard lock(mutex_);
  std::string id = prefix_ + "-" + std::to_string(next_++);
  operations_[id] = {std::move(what), std::move(subject), 0, std::nullopt};
  return id;
}

void Operations::progress(const std::string& id, unsigned percent) {
  const std::lock_guard lock(mutex_);
  if (const auto found = operations_.find(id); found != operations_.end()) {
    found->second.percent = percent;
  }
}

void Operations::end(const std::string& id, base::Result<json::value> outcome) {
  const std::lock_guard lock(mutex_);
  const auto found = operations_.find(id);
  if (found == operations_.end() || found->second.outcome) return;
  found->second.outcome = std::move(outcome);
  ended_.push_back(id);
  if (ended_.size() <= kKeptMax) return;
  operations_.erase(ended_.front());
  ended_.pop_front();
}

std::optional<json::object> Operations::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = operations_.find(id);
  if (found == operations_.end()) return std::nullopt;
  const Operation& operation = found->second;
  json::object shown{{"id", id}, {"what", operation.what}, {"subject", operation.subject}};
  if (!operation.outcome) {
    shown["state"] = "running";
    shown["percent"] = operation.percent;
  } else if (*operation.outcome) {
    shown["state"] = "done";
    shown["percent"] = 100;
    shown["result"] = **operation.outcome;
  } else {
    const base::Error& error = operation.outcome->error();
    shown["state"] = "failed";
    shown["percent"] = operation.percent;
    shown["error"] = {{"code", to_string(error.code)}, {"message", error.message}};
  }
  return shown;
}

}  // namespace conclave::registry
