// A router: links to workers, and requests that go through dispatch layer by layer.
#include <algorithm>

#include "nodes.hpp"
#include "world.hpp"

namespace conclave::sim {
namespace {

constexpr Duration kCallTimeout = seconds(10);
// How soon a peer's silence behind a parted network is seen.
constexpr Duration kHeartbeatsMissed = seconds(2);
constexpr Duration kReconnect = milliseconds(100);

}  // namespace

Router::Router(World& world, NodeIndex index, std::string name, std::uint32_t version)
    : Reporter(world, index, std::move(name)),
      version_(version),
      core_(world.options().experts, dispatch::DispatchOptions{}, world.options().seed + index) {}

void Router::start() {
  start_reporting();
  next_request();
}

wire::NodeReport Router::report() const {
  wire::NodeReport report;
  report.role = wire::NodeRole::kRouter;
  report.state = wire::NodeState::kReady;
  report.epoch_seen = epoch_;
  for (const auto& [version, table] : tables_) report.models.push_back({.model = table->model});
  return report;
}

const wire::RoutingTable* Router::table(std::uint32_t version) const {
  const auto found = tables_.find(version);
  return found == tables_.end() ? nullptr : found->second.get();
}

void Router::apply(const wire::ReportReply& reply) {
  if (reply.tables.empty()) return;
  if (reply.tables.front().epoch <= epoch_) {
    world_.broken(name() + ": a table's epoch fell");
    return;
  }
  epoch_ = reply.tables.front().epoch;
  const auto former = std::exchange(tables_, {});
  for (const wire::RoutingTable& table : reply.tables) {
    if (table.model.version == 0) continue;
    world_.check_table(*this, table);
    tables_[table.model.version] = std::make_shared<const wire::RoutingTable>(table);
  }
  for (const auto& [version, table] : former) {
    if (!tables_.contains(version)) {
      world_.broken(name() + " is to leave version " + std::to_string(version));
    }
  }
  const auto own = tables_.find(version_);
  if (own == tables_.end()) return report_now();
  table_ = own->second;
  core_.apply(table_);
  std::map<Endpoint, bool> links;
  for (const wire::WorkerEndpoint& worker : table_->workers) {
    const Endpoint endpoint{worker.node, worker.incarnation};
    const auto known = links_.find(endpoint);
    links[endpoint] = known != links_.end() && known->second;
    if (known == links_.end()) {
      after(kReconnect / 10, [this, endpoint] { connect(endpoint); });
    }
  }
  links_ = std::move(links);
  std::erase_if(calls_, [this](const auto& call) { return !links_.contains(call.second.to); });
  report_now();  // it is applied
  pump();
}

// Tries until it is up or no longer wanted.
void Router::connect(const Endpoint& endpoint) {
  const auto link = links_.find(endpoint);
  if (link == links_.end() || link->second) return;
  for (const auto& worker : world_.workers()) {
    if (worker->name() != endpoint.first || worker->incarnation() != endpoint.second) continue;
    if (!worker->is_alive() || world_.network.is_cut(index(), worker->index())) continue;
    link->second = true;
    core_.link(*index_of(endpoint), true, loop_.now());
    watch(endpoint);
    pump();
    return;
  }
  after(kReconnect, [this, endpoint] { connect(endpoint); });
}

// Heartbeats: a peer that cannot be reached for some time is as gone as one that ended.
void Router::watch(const Endpoint& endpoint) {
  after(kHeartbeatsMissed, [this, endpoint] {
    const auto link = links_.find(endpoint);
    if (link == links_.end() || !link->second) return;
    for (const auto& worker : world_.workers()) {
      if (worker->name() != endpoint.first) continue;
      const bool is_there = worker->is_alive() && worker->incarnation() == endpoint.second;
      if (is_there && !world_.network.is_cut(index(), worker->index())) continue;
      on_link_lost(endpoint.first, endpoint.second);
      return;
    }
    watch(endpoint);
  });
}

std::optional<std::size_t> Router::index_of(const Endpoint& endpoint) const {
  for (std::size_t i = 0; table_ && i < table_->workers.size(); ++i) {
    const wire::WorkerEndpoint& worker = table_->workers[i];
    if (worker.node == endpoint.first && worker.incarnation == endpoint.second) return i;
  }
  return std::nullopt;
}

void Router::on_link_lost(const std::string& worker, std::uint64_t incarnation) {
  const Endpoint endpoint{worker, incarnation};
  const auto link = links_.find(endpoint);
  if (link == links_.end() || !link->second) return;
  link->second = false;
  core_.link(*index_of(endpoint), false, loop_.now());
  for (auto call = calls_.begin(); call != calls_.end();) {
    if (call->second.to == endpoint) {
      core_.failed(call->first, false, loop_.now());
      call = calls_.erase(call);
    } else {
      ++call;
    }
  }
  after(kReconnect, [this, endpoint] { connect(endpoint); });
  pump();
}

void Router::next_request() {
  idle_ = true;
  if (finishing_) return;
  after(loop_.between(milliseconds(1), milliseconds(20)), [this] {
    idle_ = false;
    tokens_left_ = 1 + loop_.upto(3);
    layer_ = 0;
    next_layer();
  });
}

void Router::next_layer() {
  if (++layer_ == world_.options().layers) {
    layer_ = 1;
    if (--tokens_left_ == 0) {
      ++requests_;
      next_request();
      return;
    }
  }
  after(loop_.between(milliseconds(2), milliseconds(20)), [this] {
    // Some experts are wanted more often than others.
    answers_.clear();
    std::vector<dispatch::ExpertWork> work;
    for (std::uint32_t expert = 0; expert < world_.options().experts; ++expert) {
      if (!loop_.chance(1.0 / (1 + expert % 4))) continue;
      work.push_back({expert, 1 + loop_.upto(3)});
      answers_[expert] = 0;
    }
    ++run_;
    in_layer_ = true;
    layer_began_ = loop_.now();
    core_.begin(layer_, work);
    pump();
  });
}

void Router::pump() {
  if (!in_layer_) return;
  if (!core_.done()) {
    const auto planned = core_.plan(loop_.now());
    const std::vector<dispatch::Order> orders(planned.begin(), planned.end());
    for (const dispatch::Order& order : orders) send(order);
  }
  if (core_.done()) {
    layer_done();
    return;
  }
  const Time next = std::max(core_.next(loop_.now()), loop_.now() + microseconds(50));
  after(next - loop_.now(), [this, wake = ++wake_] {
    if (wake == wake_) pump();
  });
}

void Router::send(const dispatch::Order& order) {
  const wire::WorkerEndpoint& to = table_->workers[order.worker];
  const Endpoint endpoint{to.node, to.incarnation};
  if (!links_[endpoint]) {
    world_.broken(name() + " is to call " + to.node + ", to which it has no link");
    core_.not_sent(order, loop_.now());
    return;
  }
  const std::uint64_t id = world_.next_call();
  calls_[id] = {endpoint, run_, order.experts};
  core_.sent(order, id, loop_.now());
  for (const auto& worker : world_.workers()) {
    if (worker->name() != to.node || worker->incarnation() != to.incarnation) continue;
    Worker* receiver = worker.get();
    world_.network.call(index(), receiver->index(), *receiver,
                        [receiver, from = index(), id,
                         call = Worker::Call{version_, layer_, order.experts, order.pairs}] {
                          receiver->on_call(from, id, call);
                        });
  }
  after(kCallTimeout, [this, id] {
    if (calls_.erase(id) == 0) return;
    core_.failed(id, true, loop_.now());
    pump();
  });
}

void Router::on_answer(std::uint64_t id, bool ok, const wire::ExpertReply& reply) {
  const auto call = calls_.find(id);
  if (call == calls_.end()) return;  // of a link that is gone, or for the second time
  const std::uint64_t run = call->second.run;
  const std::vector<std::uint32_t> experts = call->second.experts;
  calls_.erase(call);
  if (!ok) {
    ++refusals_;
    core_.refused(id, loop_.now());
    pump();
    return;
  }
  std::size_t counted = 0;
  for (const dispatch::AnswerPart& part : core_.answered(id, reply, loop_.now())) {
    if (!part.counts) continue;
    ++counted;
    if (std::ranges::find(experts, part.expert) == experts.end()) {
      world_.broken(name() + ": an answer counts for an expert that was not asked");
    }
    if (++answers_[part.expert] > 1) world_.broken(name() + ": an expert was answered twice");
  }
  if (counted > 0 && run != run_) world_.broken(name() + ": an answer of a former layer counts");
  pump();
}

void Router::layer_done() {
  in_layer_ = false;
  for (const auto& [expert, answers] : answers_) {
    if (answers != 1) world_.broken(name() + ": a layer is done without all of its answers");
  }
  longest_layer_ = std::max(longest_layer_, Duration(loop_.now() - layer_began_));
  next_layer();
}

}  // namespace conclave::sim
