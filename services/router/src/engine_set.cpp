#include "engine_set.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "conclave/model/kv_pool.hpp"

namespace conclave::router {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

void add(engine::BatcherStats& sum, const engine::BatcherStats& one) {
  sum.add_totals(one);
  sum.running += one.running;
  sum.waiting += one.waiting;
  sum.kv_tokens_used += one.kv_tokens_used;
  sum.kv_tokens_known += one.kv_tokens_known;
  sum.kv_tokens_filed += one.kv_tokens_filed;
  sum.kv_tokens_max += one.kv_tokens_max;
  sum.kv_tokens_populated += one.kv_tokens_populated;
}

// "name:7" is name and 7; anything else is a name.
std::pair<std::string_view, std::uint32_t> split(std::string_view reference) {
  const std::size_t colon = reference.rfind(':');
  std::uint32_t version = 0;
  if (colon == std::string_view::npos) return {reference, 0};
  const std::string_view digits = reference.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), version);
  if (error != std::errc() || end != digits.end()) return {reference, 0};
  return {reference.substr(0, colon), version};
}

}  // namespace

EngineSet::EngineSet(Make make, telemetry::Logger log)
    : make_(std::move(make)), log_(std::move(log)), reaper_([this] { reap(); }) {}

void EngineSet::route(std::vector<wire::RoutingTable> tables) {
  const std::lock_guard lock(mutex_);
  if (stop_ || tables.front().epoch <= tables_epoch_) return;
  bool is_whole = true;
  const std::uint64_t epoch = tables.front().epoch;
  std::vector<Entry> next;
  for (wire::RoutingTable& table : tables) {
    if (table.model.version == 0) continue;
    Entry entry{table.model, take(table.model), table.leaving};
    if (entry.engine == nullptr) {
      auto made = make_();
      if (!made) {
        log_.error("engine_refused", {{"error", made.error().to_string()}});
        is_whole = false;
        continue;
      }
      entry.engine = std::move(*made);
    }
    entry.engine->route(std::make_shared<const wire::RoutingTable>(std::move(table)));
    next.push_back(std::move(entry));
  }
  for (Entry& left : entries_) {
    log_.info("version_closed", {{"model", left.version.name}, {"version", left.version.version}});
    left.engine->close({ErrorCode::kUnavailable, "the model was replaced"});
    retired_.push_back(std::move(left.engine));
  }
  entries_ = std::move(next);
  if (is_whole) tables_epoch_ = epoch;  // else the scheduler says it again
  retired_changed_.notify_all();
}

std::shared_ptr<InferenceEngine> EngineSet::take(const wire::ModelVersion& version) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return wire::is_same_bytes(entry.version, version);
  });
  if (found == entries_.end()) return nullptr;
  auto engine = std::move(found->engine);
  entries_.erase(found);
  return engine;
}

base::Result<EngineSet::Found> EngineSet::find(const std::string& name,
                                               std::uint32_t version) const {
  const auto [bare, named] = split(name);
  const std::uint32_t wanted = version != 0 ? version : named;
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) {
    return fail(ErrorCode::kUnavailable, "the scheduler has named no model yet");
  }
  std::string names;
  std::string versions;
  Status problem;
  for (const Entry& entry : entries_) {
    if (entry.version.name != bare) {
      if (names.find(entry.version.name) == std::string::npos) {
        names += (names.empty() ? "" : ", ") + entry.version.name;
      }
      continue;
    }
    versions += (versions.empty() ? "" : ", ") + std::to_string(entry.version.version);
    // Whichever is served is one that stays, if there is one.
    if (wanted == 0 ? entry.leaving : entry.version.version != wanted) continue;
    if (auto model = entry.engine->model()) return Found{entry.engine, std::move(model)};
    problem = entry.engine->ready();
    if (problem) problem = fail(ErrorCode::kUnavailable, "no model is loaded");
  }
  if (!problem) return fail(ErrorCode::kUnavailable, problem.error().message);
  if (!versions.empty()) {
    return fail(ErrorCode::kUnavailable, "this router serves version " + versions + ", not " +
                                             (wanted == 0 ? "another" : std::to_string(wanted)));
  }
  return fail(ErrorCode::kNotFound, "this router serves " + names + ", not " + name);
}

Status EngineSet::ready() const {
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) {
    return fail(ErrorCode::kUnavailable, "the scheduler has named no model yet");
  }
  Status first = entries_.front().engine->ready();
  for (std::size_t i = 1; i < entries_.size() && !first; ++i) {
    if (entries_[i].engine->ready()) return {};
  }
  return first;
}

std::uint64_t EngineSet::epoch() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t epoch = tables_epoch_;
  for (const Entry& entry : entries_) epoch = std::min(epoch, entry.engine->epoch());
  applied_ = std::max(applied_, epoch);
  return applied_;
}

std::vector<wire::HostedModel> EngineSet::open() const {
  const std::lock_guard lock(mutex_);
  std::vector<wire::HostedModel> open;
  for (const Entry& entry : entries_) {
    wire::HostedModel hosted{.model = entry.version};
    const engine::BatcherStats stats = entry.engine->stats();
    if (entry.leaving) {
      if (stats.running + stats.waiting == 0) continue;
      hosted.state = wire::NodeState::kDraining;
    } else if (const Status ready = entry.engine->ready(); !ready) {
      hosted.state = wire::NodeState::kStarting;
      hosted.reason = ready.error().message;
    }
    open.push_back(std::move(hosted));
  }
  return open;
}

std::vector<wire::RefusedExpert> EngineSet::refused() const {
  const std::lock_guard lock(mutex_);
  std::vector<wire::RefusedExpert> refused;
  for (const Entry& entry : entries_) {
    if (auto one = entry.engine->refused()) refused.push_back(*std::move(one));
  }
  return refused;
}

std::vector<std::string> EngineSet::lost_workers() const {
  std::set<std::string> lost;
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    for (std::string& worker : entry.engine->lost_workers()) lost.insert(std::move(worker));
  }
  return {lost.begin(), lost.end()};
}

engine::BatcherStats EngineSet::stats() const {
  const std::lock_guard lock(mutex_);
  engine::BatcherStats stats;
  stats.add_totals(past_);
  for (const Entry& entry : entries_) add(stats, entry.engine->stats());
  for (const auto& engine : retired_) stats.add_totals(engine->stats());
  return stats;
}

std::uint64_t EngineSet::promised_bytes(const engine::BatcherOptions& options) const {
  const std::lock_guard lock(mutex_);
  std::uint64_t bytes = 0;
  for (const Entry& entry : entries_) {
    const auto model = entry.engine->model();
    if (!model) continue;
    const engine::BatcherStats stats = entry.engine->stats();
    const std::uint64_t held =
        std::max({stats.kv_tokens_used, stats.kv_tokens_known, stats.kv_tokens_populated});
    const std::uint64_t token =
        model::KvPool::block_bytes(model->backbone->config(), options.kv_type) /
        model::kKvBlockTokens;
    bytes += (stats.kv_tokens_max - std::min(held, stats.kv_tokens_max)) * token;
  }
  return bytes;
}

void EngineSet::stop() {
  std::vector<Entry> entries;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    for (const auto& engine : retired_) engine->halt();
    entries.swap(entries_);
  }
  retired_changed_.notify_all();
  for (const Entry& entry : entries) entry.engine->halt();
  for (const Entry& entry : entries) entry.engine->stop();
  if (reaper_.joinable()) reaper_.join();
}

// Waits for engines to end what they do: no other thread may be kept by that.
void EngineSet::reap() {
  std::unique_lock lock(mutex_);
  for (;;) {
    retired_changed_.wait(lock, [this] { return stop_ || !retired_.empty(); });
    if (retired_.empty()) return;
    const std::shared_ptr<InferenceEngine> engine = retired_.front();
    lock.unlock();
    engine->join();
    lock.lock();
    past_.add_totals(engine->stats());
    std::erase(retired_, engine);
  }
}

}  // namespace conclave::router
