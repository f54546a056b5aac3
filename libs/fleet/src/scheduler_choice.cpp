#include "conclave/fleet/scheduler_choice.hpp"

#include <algorithm>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::fleet {

SchedulerChoice::SchedulerChoice(std::vector<std::string> addresses)
    : addresses_(std::move(addresses)), configured_(addresses_.size()) {
  CONCLAVE_CHECK(configured_ > 0);
}

bool SchedulerChoice::answered(std::size_t from, const wire::ReportReply& reply, Time now) {
  const bool is_asked_in_passing = from != current_;
  const bool is_newer = reply.term > term_;
  if (is_asked_in_passing && !is_newer) return false;
  const bool is_stale = reply.term != 0 && reply.term < term_ && now - term_heard_ < kTermMemory;
  if (is_stale || !reply.leader.empty()) {
    move_on(is_stale ? next_of(from) : index_of(reply.leader));
    return false;
  }
  if (reply.term != 0) {
    term_ = reply.term;
    term_heard_ = now;
  }
  if (is_newer && leader_ && *leader_ != from) {
    former_ = *leader_;
    farewells_ = kFarewells;
  }
  current_ = from;
  leader_ = from;
  is_led_ = true;
  tries_ = 0;
  return true;
}

void SchedulerChoice::failed(std::size_t from) {
  if (from == current_) move_on(next_of(from));
}

void SchedulerChoice::reachable(std::size_t scheduler) {
  if (!is_led_) current_ = scheduler;
}

void SchedulerChoice::move_on(std::size_t to) {
  current_ = to;
  is_led_ = false;
  ++tries_;
}

std::size_t SchedulerChoice::next_of(std::size_t scheduler) const {
  return (scheduler + 1) % addresses_.size();
}

std::size_t SchedulerChoice::index_of(const std::string& address) {
  const auto found = std::find(addresses_.begin(), addresses_.end(), address);
  if (found != addresses_.end()) return static_cast<std::size_t>(found - addresses_.begin());
  addresses_.resize(configured_);
  addresses_.push_back(address);
  return configured_;
}

std::optional<std::size_t> SchedulerChoice::probe(Time now) {
  if (!is_led_ || addresses_.size() < 2) return std::nullopt;
  if (farewells_ > 0 && former_ != current_ && former_ < addresses_.size()) {
    --farewells_;
    return former_;
  }
  if (now - probed_ < kProbe) return std::nullopt;
  probed_ = now;
  probe_ = next_of(probe_);
  if (probe_ == current_) probe_ = next_of(probe_);
  return probe_;
}

}  // namespace conclave::fleet
