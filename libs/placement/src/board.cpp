#include "board.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "bits.hpp"
#include "conclave/base/check.hpp"

namespace conclave::placement {
namespace {

using wire::ExpertBits;

// A name's number; an empty one is nobody else's.
std::uint32_t number_of(const std::string& name, std::map<std::string, std::uint32_t>& numbers,
                        std::uint32_t& next) {
  if (name.empty()) return next++;
  const auto [entry, is_new] = numbers.try_emplace(name, next);
  if (is_new) ++next;
  return entry->second;
}

}  // namespace

Board::Board(const PlanRequest& request)
    : request_(request),
      layers_(request.shape.layers - request.shape.dense_layers),
      experts_(request.shape.experts) {
  read_workers();
  speeds_.resize(items());
  holders_.resize(items());
  times_.resize(std::size_t{layers_} * workers());
  hosted_.resize(times_.size());
  layer_copies_.resize(layers_);
  read_loads();
  read_held();
  read_pins();
  read_floors();
}

void Board::read_workers() {
  std::map<std::string, std::uint32_t> hosts;
  std::map<std::string, std::uint32_t> zones;
  double speed = 0;
  for (std::size_t i = 0; i < request_.workers.size(); ++i) {
    const PlanWorker& asked = request_.workers[i];
    const std::uint64_t room = room_of(asked, request_.shape);
    if (asked.leaving || room == 0) continue;
    CONCLAVE_CHECK(asked.speed > 0 && std::isfinite(asked.speed));
    Worker worker;
    worker.of_request = i;
    worker.speed = asked.speed;
    worker.room = static_cast<std::uint32_t>(room);
    worker.host = number_of(asked.host, hosts, hosts_);
    worker.zone = number_of(asked.zone, zones, zones_);
    worker.may_take = !asked.cordoned;
    speed += asked.speed;
    all_.push_back(worker);
  }
  if (all_.empty()) return;
  ideal_ = 1 / speed;
  const std::uint32_t count = workers();
  domains_matter_ =
      request_.replicas > 1 && ((hosts_ > 1 && hosts_ < count) || (zones_ > 1 && zones_ < count));
  if (request_.replicas < 2 || count > kMirrorWorkersMax) return;
  shared_.resize(std::size_t{count} * count);
  std::vector<std::uint32_t> on_host(hosts_);
  for (const Worker& worker : all_) ++on_host[worker.host];
  for (const Worker& worker : all_) {
    // Those that may have the other copies of what it hosts. With one there is no choice.
    const std::uint32_t partners = hosts_ > 1 ? count - on_host[worker.host] : count - 1;
    const double size =
        std::min<double>(worker.room, static_cast<double>(request_.shape.experts_total()) *
                                          std::min(request_.replicas, count) / count);
    shared_max_.push_back(partners < 2 ? UINT32_MAX
                                       : static_cast<std::uint32_t>(1.5 * size / partners) + 2);
  }
}

void Board::read_loads() {
  const std::uint32_t dense = request_.shape.dense_layers;
  loads_.assign(items(), 1.0 / experts_);
  if (!has_loads()) return;
  CONCLAVE_CHECK(request_.loads.size() == std::size_t{request_.shape.layers} * experts_);
  for (std::uint32_t layer = 0; layer < layers_; ++layer) {
    const auto from =
        request_.loads.begin() + static_cast<std::ptrdiff_t>(dense + layer) * experts_;
    double sum = 0;
    for (std::uint32_t e = 0; e < experts_; ++e) {
      CONCLAVE_CHECK(from[e] >= 0 && std::isfinite(from[e]));
      sum += from[e];
    }
    if (sum <= 0) continue;
    for (std::uint32_t e = 0; e < experts_; ++e) loads_[layer * experts_ + e] = from[e] / sum;
  }
}

void Board::read_held() {
  held_.resize(items());
  const std::uint32_t dense = request_.shape.dense_layers;
  for (std::uint32_t w = 0; w < workers(); ++w) {
    const PlanWorker& asked = request_.workers[all_[w].of_request];
    const auto note = [&](std::uint32_t layer, std::uint32_t expert) {
      if (layer < dense) return;
      Indexes& held = held_[(layer - dense) * experts_ + expert];
      if (held.empty() || held.back() != w) held.push_back(w);
    };
    for_each(asked.resident, note);
    for_each(asked.assigned, note);
  }
}

void Board::read_pins() {
  if (!has_pins()) return;
  rule_of_.resize(items());
  std::map<std::vector<std::uint32_t>, std::uint32_t> known;
  std::vector<std::uint32_t> applying;
  for (std::uint32_t item = 0; item < items(); ++item) {
    applying.clear();
    for (std::uint32_t pin = 0; pin < request_.pins.size(); ++pin) {
      const std::uint32_t layer = request_.shape.dense_layers + layer_of(item);
      if (request_.pins[pin].applies_to(layer, item % experts_)) applying.push_back(pin);
    }
    if (applying.empty()) continue;
    const auto [entry, is_new] =
        known.try_emplace(applying, static_cast<std::uint32_t>(rules_.size() + 1));
    if (is_new) rules_.push_back(rule_of(applying));
    rule_of_[item] = entry->second;
  }
}

Board::Rule Board::rule_of(const std::vector<std::uint32_t>& pins) const {
  Rule rule;
  rule.allowed.assign(all_.size(), 1);
  for (const std::uint32_t index : pins) {
    const Pin& pin = request_.pins[index];
    for (std::uint32_t w = 0; w < workers(); ++w) {
      const bool is_named = pin.names(request_.workers[all_[w].of_request]);
      if (pin.kind == Pin::Kind::kOnly && !is_named) rule.allowed[w] = 0;
      if (pin.kind == Pin::Kind::kNever && is_named) rule.allowed[w] = 0;
    }
  }
  for (const std::uint32_t index : pins) {
    const Pin& pin = request_.pins[index];
    if (pin.kind != Pin::Kind::kAlso) continue;
    for (std::uint32_t w = 0; w < workers(); ++w) {
      if (rule.allowed[w] == 0 || !pin.names(request_.workers[all_[w].of_request])) continue;
      if (std::ranges::find(rule.also, w) == rule.also.end()) rule.also.push_back(w);
    }
  }
  return rule;
}

void Board::read_floors() {
  const std::uint32_t cap =
      std::max(request_.replicas, request_.replicas_max == 0 ? workers() : request_.replicas_max);
  needed_.resize(items());
  most_.resize(items());
  const bool all_take = std::ranges::all_of(all_, &Worker::may_take);
  for (std::uint32_t item = 0; item < items(); ++item) {
    std::uint32_t able = workers();
    if (!all_take || is_pinned(item)) {
      able = 0;
      for (std::uint32_t w = 0; w < workers(); ++w) {
        able += allows(item, w) && (all_[w].may_take || was_held(item, w)) ? 1u : 0u;
      }
    }
    most_[item] = std::min(cap, able);
    needed_[item] = std::min(request_.replicas, able);
    const auto fixed = static_cast<std::uint32_t>(also(item).size());
    most_[item] = std::max(most_[item], std::min(fixed, able));
  }
}

bool Board::has(std::uint32_t item, std::uint32_t w) const {
  const Indexes& list = holders_[item];
  return std::find(list.begin(), list.end(), w) != list.end();
}

bool Board::was_held(std::uint32_t item, std::uint32_t w) const {
  return std::binary_search(held_[item].begin(), held_[item].end(), w);
}

bool Board::was_resident(std::uint32_t item, std::uint32_t w) const {
  const PlanWorker& asked = request_.workers[all_[w].of_request];
  return asked.resident.test(request_.shape.dense_layers + layer_of(item), item % experts_);
}

void Board::add_time(std::uint32_t item, double sign) {
  if (holders_[item].empty()) return;
  const double time = sign * time_of(item);
  const std::size_t row = at(layer_of(item), 0);
  for (const std::uint32_t w : holders_[item]) {
    times_[row + w] += time;
    all_[w].total += time;
  }
}

void Board::put(std::uint32_t item, std::uint32_t w) {
  add_time(item, -1);
  if (!shared_.empty()) {
    for (const std::uint32_t other : holders_[item]) {
      ++shared_[std::size_t{w} * all_.size() + other];
      ++shared_[std::size_t{other} * all_.size() + w];
    }
  }
  holders_[item].push_back(w);
  speeds_[item] += all_[w].speed;
  add_time(item, 1);
  hosted_[at(layer_of(item), w)].push_back(item);
  ++all_[w].used;
  ++layer_copies_[layer_of(item)];
}

void Board::take(std::uint32_t item, std::uint32_t w) {
  add_time(item, -1);
  std::erase(holders_[item], w);
  speeds_[item] = 0;  // summed again: no residue of differences
  for (const std::uint32_t other : holders_[item]) speeds_[item] += all_[other].speed;
  add_time(item, 1);
  if (!shared_.empty()) {
    for (const std::uint32_t other : holders_[item]) {
      --shared_[std::size_t{w} * all_.size() + other];
      --shared_[std::size_t{other} * all_.size() + w];
    }
  }
  std::erase(hosted_[at(layer_of(item), w)], item);
  --all_[w].used;
  --layer_copies_[layer_of(item)];
}

bool Board::allows(std::uint32_t item, std::uint32_t w) const {
  if (!is_pinned(item)) return true;
  return rules_[rule_of_[item] - 1].allowed[w] != 0;
}

std::span<const std::uint32_t> Board::also(std::uint32_t item) const {
  if (!is_pinned(item)) return {};
  return rules_[rule_of_[item] - 1].also;
}

bool Board::is_fixed(std::uint32_t item, std::uint32_t w) const {
  const auto wanted = also(item);
  return std::find(wanted.begin(), wanted.end(), w) != wanted.end();
}

bool Board::may_put(std::uint32_t item, std::uint32_t w) const {
  return (all_[w].may_take || was_held(item, w)) && allows(item, w) && !has(item, w);
}

std::uint32_t Board::conflict(std::uint32_t item, std::uint32_t w) const {
  std::uint32_t worst = 0;
  for (const std::uint32_t other : holders_[item]) {
    if (all_[other].host == all_[w].host) return 2;
    if (all_[other].zone == all_[w].zone) worst = 1;
  }
  return worst;
}

std::uint32_t Board::crowding(std::uint32_t item, std::uint32_t minus, std::uint32_t plus) const {
  // Distinct hosts and zones, counted no further than the floor wants them.
  const std::uint32_t want = request_.replicas;
  Indexes hosts;
  Indexes zones;
  const auto see = [&](std::uint32_t w) {
    const Worker& worker = all_[w];
    if (std::ranges::find(hosts, worker.host) == hosts.end()) hosts.push_back(worker.host);
    if (std::ranges::find(zones, worker.zone) == zones.end()) zones.push_back(worker.zone);
  };
  for (const std::uint32_t w : holders_[item]) {
    if (w != minus) see(w);
    if (hosts.size() >= want && zones.size() >= want) break;
  }
  if (plus != kNobody) see(plus);
  const auto lacking = [want](std::size_t there_are, std::size_t used) {
    return static_cast<std::uint32_t>(
        std::min<std::size_t>(want, there_are) -
        std::min<std::size_t>(std::min<std::size_t>(want, there_are), used));
  };
  return 2 * want * lacking(hosts_, hosts.size()) + lacking(zones_, zones.size());
}

std::uint32_t Board::shared(std::uint32_t a, std::uint32_t b) const {
  return shared_.empty() ? 0 : shared_[std::size_t{a} * all_.size() + b];
}

bool Board::would_mirror(std::uint32_t item, std::uint32_t w) const {
  if (shared_.empty()) return false;
  for (const std::uint32_t other : holders_[item]) {
    if (shared(w, other) >= std::max(shared_max_[w], shared_max_[other])) return true;
  }
  return false;
}

void Board::store(std::vector<ExpertBits>& targets) const {
  for (std::uint32_t item = 0; item < items(); ++item) {
    for (const std::uint32_t w : holders_[item]) {
      targets[all_[w].of_request].set(request_.shape.dense_layers + layer_of(item),
                                      item % experts_);
    }
  }
}

}  // namespace conclave::placement
