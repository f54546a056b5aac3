#include "rollout.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "bits.hpp"
#include "conclave/base/check.hpp"

namespace conclave::scheduler {

using wire::ExpertBits;

namespace {

ExpertBits all_experts(const placement::ModelShape& shape) {
  ExpertBits all(shape.layers, shape.experts);
  for (std::uint32_t layer = shape.dense_layers; layer < shape.layers; ++layer) {
    for (std::uint32_t index = 0; index < shape.experts; ++index) all.set(layer, index);
  }
  return all;
}

// "10.0.0.7" of "tcp://10.0.0.7:7700"; empty for addresses without a host.
std::string host_of(const std::string& address) {
  constexpr std::string_view kTcp = "tcp://";
  if (!address.starts_with(kTcp)) return {};
  return address.substr(kTcp.size(), address.rfind(':') - kTcp.size());
}

}  // namespace

Rollout::Rollout(ServedModel model, const RolloutOptions& options)
    : model_(std::move(model)), options_(options), all_(all_experts(model_.shape)) {}

bool Rollout::is_of(const ServedModel& model) const {
  return wire::is_same_bytes(model.version, model_.version) &&
         model.shape.layers == model_.shape.layers && model.shape.experts == model_.shape.experts;
}

void Rollout::learn(ServedModel model) {
  CONCLAVE_CHECK(is_of(model));
  if (!(model.version == model_.version)) {
    table_is_outdated_ = true;
    for (auto& [name, hosting] : workers_) hosting.is_outdated = true;
  }
  model_ = std::move(model);
  all_ = all_experts(model_.shape);
}

ExpertBits Rollout::none() const { return {model_.shape.layers, model_.shape.experts}; }

void Rollout::observe(const wire::NodeReport& worker, Time now) {
  const auto [entry, is_new] = workers_.try_emplace(worker.node);
  Hosting& hosting = entry->second;
  if (is_new) hosting.target = hosting.in_table = none();
  const bool is_unknown = is_new || hosting.limits.incarnation != worker.incarnation;
  if (is_unknown) {
    hosting.listed = none();
    hosting.order.clear();
    hosting.epoch = 0;
    table_is_outdated_ |= !is_empty(hosting.in_table);
  }
  if (hosting.address != worker.address) {
    hosting.address = worker.address;
    table_is_outdated_ |= !is_empty(hosting.in_table);
  }
  hosting.limits = {worker.device.substr(0, worker.device.find(':')),
                    host_of(worker.address),
                    worker.zone,
                    worker.incarnation,
                    worker.memory_bytes,
                    worker.slots,
                    worker.state == wire::NodeState::kDraining};

  // `ready` counts in every state: a worker that loads more experts says it is starting, and those
  // that it has compute all the same.
  const wire::HostedModel* hosted = worker.hosted(model_.version);
  const bool is_ours = hosted != nullptr && hosted->ready.layers() == model_.shape.layers &&
                       hosted->ready.experts() == model_.shape.experts && !worker.address.empty();
  if (is_ours && !model_.is_known()) learn_layers(hosted->ready);
  hosting.ready = is_ours ? hosted->ready & all_ : none();
  // The report may be older than an assignment that drops some.
  if (hosting.epoch != 0) hosting.ready = hosting.ready & hosting.listed;
  if (is_unknown && !is_empty(hosting.ready)) {
    // One that was gone may still be in the table at hand: the next one must have been taken.
    removals_.push_back({table_is_outdated_ ? 0 : table_.epoch,
                         now,
                         now + options_.hold,
                         {{worker.node, hosting.ready}}});
  }
}

// Of a model that only workers told us about, the layers before the first that any of them has
// experts of are dense, as far as one can see.
void Rollout::learn_layers(const ExpertBits& ready) {
  std::uint32_t first = model_.shape.dense_layers;
  for_each(ready, [&first](std::uint32_t layer, std::uint32_t) { first = std::min(first, layer); });
  if (first == model_.shape.dense_layers) return;
  model_.shape.dense_layers = first;
  all_ = all_experts(model_.shape);
}

void Rollout::forget(const std::string& worker) {
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return;
  table_is_outdated_ |= !is_empty(found->second.in_table);
  workers_.erase(found);
}

std::optional<Rollout::Limits> Rollout::limits_of(const std::string& worker) const {
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return std::nullopt;
  return found->second.limits;
}

placement::PlanWorker Rollout::plan_worker(const std::string& name, const Hosting& hosting) {
  return {name,
          hosting.limits.memory_bytes,
          hosting.limits.slots,
          hosting.limits.leaving,
          hosting.ready,
          hosting.target,
          1.0,
          hosting.limits.group,
          hosting.limits.host,
          hosting.limits.zone};
}

std::vector<placement::PlanWorker> Rollout::plan_workers() const {
  std::vector<placement::PlanWorker> workers;
  for (const auto& [name, hosting] : workers_) workers.push_back(plan_worker(name, hosting));
  return workers;
}

void Rollout::set_policy(wire::DegradedPolicy policy) {
  table_is_outdated_ |= policy != options_.policy;
  options_.policy = policy;
}

void Rollout::set_leaving(bool leaving) {
  table_is_outdated_ |= leaving != leaving_;
  leaving_ = leaving;
}

void Rollout::set_targets(const std::vector<ExpertBits>& targets) {
  CONCLAVE_CHECK(targets.size() == workers_.size());
  auto target = targets.begin();
  for (auto& [name, hosting] : workers_) hosting.target = *target++;
}

// Where all copies that the plan wants of an expert are ready, these and no others; before that,
// every ready copy there is.
std::map<std::string, ExpertBits> Rollout::usable() const {
  ExpertBits targeted = none();
  ExpertBits waiting = none();
  for (const auto& [name, hosting] : workers_) {
    targeted = targeted | hosting.target;
    waiting = waiting | (hosting.target - hosting.ready);
  }
  const ExpertBits settled = targeted - waiting;
  std::map<std::string, ExpertBits> usable;
  for (const auto& [name, hosting] : workers_) {
    usable.emplace(name, hosting.ready - (settled - hosting.target));
  }
  return usable;
}

bool Rollout::table_is_stale() const {
  if (table_is_outdated_) return true;
  const auto usable = this->usable();
  return std::any_of(workers_.begin(), workers_.end(), [&usable](const auto& worker) {
    return !(usable.at(worker.first) == worker.second.in_table);
  });
}

void Rollout::publish(std::uint64_t epoch, Time now) {
  for (Removal& removal : removals_) {
    if (removal.epoch != 0) continue;
    removal.epoch = epoch;
    removal.published = now;
  }
  const auto usable = this->usable();
  Removal removal{epoch, now, {}, {}};
  table_ = {};
  table_.epoch = epoch;
  table_.model = model_.version;
  table_.policy = options_.policy;
  table_.leaving = leaving_;
  table_.backbone = model_.backbone;
  table_.layers = model_.shape.layers;
  table_.experts = model_.shape.experts;
  std::vector<const ExpertBits*> hosted;
  for (auto& [name, hosting] : workers_) {
    const ExpertBits& in_table = usable.at(name);
    const ExpertBits removed = hosting.in_table - in_table;
    if (!is_empty(removed)) removal.copies.emplace(name, removed);
    hosting.in_table = in_table;
    if (is_empty(in_table)) continue;
    table_.workers.push_back({name, hosting.limits.incarnation, hosting.address});
    hosted.push_back(&hosting.in_table);
  }
  table_.first.push_back(0);
  for (std::uint32_t layer = 0; layer < table_.layers; ++layer) {
    for (std::uint32_t index = 0; index < table_.experts; ++index) {
      for (std::size_t worker = 0; worker < hosted.size(); ++worker) {
        if (hosted[worker]->test(layer, index)) {
          table_.pool.push_back(static_cast<std::uint16_t>(worker));
        }
      }
      table_.first.push_back(static_cast<std::uint32_t>(table_.pool.size()));
    }
  }
  if (!removal.copies.empty()) removals_.push_back(std::move(removal));
  table_is_outdated_ = false;
}

ExpertBits Rollout::in_removal(const std::string& worker) const {
  ExpertBits copies = none();
  for (const Removal& removal : removals_) {
    const auto found = removal.copies.find(worker);
    if (found != removal.copies.end()) copies = copies | found->second;
  }
  return copies;
}

wire::AssignedExpert Rollout::assigned_expert(std::uint32_t layer, std::uint32_t index) const {
  wire::AssignedExpert expert{layer, index, {}};
  const std::size_t at = std::size_t{layer} * model_.shape.experts + index;
  if (at < model_.digests.size()) expert.sha256 = model_.digests[at];
  return expert;
}

// As far as there is room beside what is kept: what nobody has first, then what the worker was told
// already.
std::vector<wire::AssignedExpert> Rollout::to_load(const Hosting& hosting, const ExpertBits& kept,
                                                   const ExpertBits& urgent,
                                                   std::uint64_t room) const {
  using Rank = std::tuple<bool, bool, std::uint32_t, std::uint32_t>;
  std::vector<Rank> wanted;
  for_each(hosting.target - hosting.ready, [&](std::uint32_t layer, std::uint32_t index) {
    wanted.emplace_back(!urgent.test(layer, index), !hosting.listed.test(layer, index), layer,
                        index);
  });
  std::sort(wanted.begin(), wanted.end());
  const std::uint64_t left = room - std::min<std::uint64_t>(room, kept.count());
  wanted.resize(std::min<std::uint64_t>(wanted.size(), left));
  std::vector<wire::AssignedExpert> experts;
  for (const auto& [calm, unlisted, layer, index] : wanted) {
    experts.push_back(assigned_expert(layer, index));
  }
  return experts;
}

std::vector<std::string> Rollout::assign(std::uint64_t routers_seen, bool leased, Time now,
                                         const NextEpoch& next_epoch, const Room& room) {
  if (!model_.is_known()) return {};
  std::erase_if(removals_, [&](const Removal& removal) {
    const auto age = now - removal.published;
    return now >= removal.hold_until && removal.epoch != 0 &&
           age >= (leased ? options_.grace : options_.grace_unleased) &&
           (routers_seen >= removal.epoch || age >= options_.router_patience);
  });
  const auto usable = this->usable();
  const ExpertBits urgent = missing();
  std::vector<std::string> changed;
  for (auto& [name, hosting] : workers_) {
    const ExpertBits kept =
        hosting.ready & (hosting.target | hosting.in_table | usable.at(name) | in_removal(name));
    std::vector<wire::AssignedExpert> order = to_load(hosting, kept, urgent, room(name));
    ExpertBits listed = kept;
    for (const wire::AssignedExpert& expert : order) listed.set(expert.layer, expert.index);
    if (hosting.epoch != 0 && !hosting.is_outdated && listed == hosting.listed) continue;
    for_each(kept, [&](std::uint32_t layer, std::uint32_t index) {
      order.push_back(assigned_expert(layer, index));
    });
    hosting.ready = hosting.ready & listed;
    hosting.listed = std::move(listed);
    hosting.order = std::move(order);
    hosting.epoch = next_epoch();
    hosting.was_told = false;
    hosting.is_outdated = false;
    changed.push_back(name);
  }
  return changed;
}

bool Rollout::has_news(const std::string& worker, std::uint64_t epoch_seen) const {
  const auto found = workers_.find(worker);
  if (found == workers_.end() || found->second.epoch == 0) return false;
  return found->second.epoch > epoch_seen || !found->second.was_told;
}

std::uint64_t Rollout::epoch_of(const std::string& worker) const {
  const auto found = workers_.find(worker);
  return found == workers_.end() ? 0 : found->second.epoch;
}

std::optional<wire::Assignment> Rollout::tell(const std::string& worker, std::uint64_t epoch) {
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return std::nullopt;
  Hosting& hosting = found->second;
  if (!model_.is_known()) {
    wire::Assignment as_it_is{epoch, model_.version, {}};
    for_each(hosting.ready, [&](std::uint32_t layer, std::uint32_t index) {
      as_it_is.experts.push_back({layer, index, {}});
    });
    return as_it_is;
  }
  if (hosting.epoch == 0) return std::nullopt;
  hosting.epoch = epoch;
  hosting.was_told = true;
  return wire::Assignment{epoch, model_.version, hosting.order};
}

bool Rollout::is_moving() const {
  if (!removals_.empty() || table_is_stale()) return true;
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& worker) {
    return !is_empty(worker.second.listed - worker.second.ready);
  });
}

bool Rollout::is_blocked() const {
  return model_.is_known() && std::any_of(workers_.begin(), workers_.end(), [](const auto& worker) {
           return !is_empty(worker.second.target - worker.second.ready);
         });
}

ExpertBits Rollout::ready() const {
  ExpertBits ready = none();
  for (const auto& [name, hosting] : workers_) ready = ready | hosting.ready;
  return ready;
}

ExpertBits Rollout::missing() const { return all_ - ready(); }

std::vector<std::string> Rollout::hosts_of(std::uint32_t layer, std::uint32_t index) const {
  std::vector<std::string> hosts;
  for (const auto& [name, hosting] : workers_) {
    if (hosting.ready.test(layer, index)) hosts.push_back(name);
  }
  return hosts;
}

std::uint32_t Rollout::assigned(const std::string& worker) const {
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return 0;
  return static_cast<std::uint32_t>(found->second.listed.count());
}

ExpertBits Rollout::pending(const std::string& worker) const {
  const auto found = workers_.find(worker);
  if (found == workers_.end() || found->second.epoch == 0) return none();
  return found->second.listed - found->second.ready;
}

std::uint32_t Rollout::least_copies() const {
  std::uint32_t least = UINT32_MAX;
  for_each(all_, [&](std::uint32_t layer, std::uint32_t index) {
    std::uint32_t copies = 0;
    for (const auto& [name, hosting] : workers_)
      copies += hosting.ready.test(layer, index) ? 1u : 0u;
    least = std::min(least, copies);
  });
  return least == UINT32_MAX ? 0 : least;
}

}  // namespace conclave::scheduler
