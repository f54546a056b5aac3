#include "nodes.hpp"

#include <algorithm>

#include "conclave/placement/planner.hpp"
#include "world.hpp"

namespace conclave::sim {
namespace {

constexpr Duration kReportInterval = seconds(1);
constexpr Duration kUnreadyInterval = milliseconds(100);
// A control message that is lost takes its connection with it, and this long later that is seen.
constexpr Duration kLossSeen = seconds(1);
constexpr Duration kCallTimeout = seconds(10);
// How soon a peer's silence behind a parted network is seen.
constexpr Duration kHeartbeatsMissed = seconds(2);
constexpr Duration kReconnect = milliseconds(100);

// EPLB-FT under loads that nobody foresaw: other ones for every plan, so that plans differ.
class RestlessPlanner final : public placement::Planner {
 public:
  explicit RestlessPlanner(Loop& loop) : loop_(loop) {}
  [[nodiscard]] placement::Plan plan(const placement::PlanRequest& asked) const override {
    placement::PlanRequest request = asked;
    const auto& shape = request.shape;
    request.loads.clear();
    for (std::size_t i = 0; i < std::size_t{shape.layers} * shape.experts; ++i) {
      request.loads.push_back(1.0 / (1 + loop_.upto(9)));
    }
    return placement::EplbFtPlanner().plan(request);
  }

 private:
  Loop& loop_;
};

}  // namespace

// ---- scheduler ----

Scheduler::Scheduler(World& world) : Process(world.loop), world_(world) {}

void Scheduler::start() {
  begin_life();
  scheduler::SchedulerSettings settings;
  settings.replicas = world_.options().replicas;
  settings.lease = World::kLease;
  settings.grace = milliseconds(300);
  const auto wall = std::chrono::system_clock::time_point(std::chrono::hours(24 * 365 * 50)) +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(loop_.age());
  core_ = std::make_unique<scheduler::SchedulerCore>(
      settings, std::make_unique<RestlessPlanner>(loop_), wall, loop_.now(), telemetry::Logger());
  after(loop_.between(milliseconds(1), milliseconds(1500)), [this] {
    scheduler::WantedModel wanted{
        .record = world_.record(),
        .digests = std::make_shared<const wire::ModelDigests>(world_.digests()),
        .policy = {},
        .pins = {}};
    if (!core_->on_models({std::move(wanted)}, loop_.now())) {
      world_.broken("the scheduler refuses the model");
    }
    send_nudges();
  });
  tick();
  tell_links(true);
}

void Scheduler::kill() {
  end_life();
  tell_links(false);
  core_.reset();
  dies_at_ = UINT64_MAX;
}

// A process that ends resets its connections; nodes try to connect again ten times a second.
void Scheduler::tell_links(bool up) {
  for (NodeIndex i = 1; Reporter* node = world_.node(i); ++i) {
    const Duration wait = up ? loop_.between(milliseconds(1), milliseconds(100)) : milliseconds(2);
    loop_.in(wait, [this, node, life = node->life(), own = this->life(), up] {
      if (own != this->life() || world_.network.is_cut(World::kScheduler, node->index())) return;
      node->run(life, [node, up] { node->on_link(up); });
    });
  }
}

void Scheduler::tick() {
  after(milliseconds(100), [this] { tick(); });
  core_->on_tick(loop_.now());
  send_nudges();
}

void Scheduler::on_report(NodeIndex from, std::uint64_t request, const wire::NodeReport& report) {
  auto reply = core_->on_report(report, loop_.now());
  if (reply) {
    Reporter* node = world_.node(from);
    world_.network.tell(World::kScheduler, from, *node,
                        [node, request, answer = *reply] { node->on_reply(request, answer); });
  }
  send_nudges();
  if (++handled_ < dies_at_) return;
  world_.note("the scheduler dies after message " + std::to_string(handled_));
  kill();
  loop_.in(loop_.between(milliseconds(10), seconds(2)), [this] {
    if (!is_alive()) start();
  });
}

void Scheduler::send_nudges() {
  for (const scheduler::NudgeTo& nudge : core_->take_nudges()) {
    for (NodeIndex i = 1; Reporter* node = world_.node(i); ++i) {
      if (node->name() != nudge.node) continue;
      world_.network.tell(World::kScheduler, i, *node, [node] { node->on_nudge(); });
    }
  }
}

// ---- reporter ----

Reporter::Reporter(World& world, NodeIndex index, std::string name)
    : Process(world.loop), world_(world), index_(index), name_(std::move(name)) {}

void Reporter::start_reporting() {
  begin_life();
  incarnation_ = world_.next_incarnation();
  under_way_ = false;
  again_ = false;
  beat();
}

void Reporter::kill() { end_life(); }

void Reporter::beat() {
  report_now();
  after(is_ready_ ? kReportInterval : kUnreadyInterval, [this] { beat(); });
}

void Reporter::on_link(bool up) {
  under_way_ = false;  // an answer to what was under way will not come
  if (up) send();
}

void Reporter::report_now() {
  if (under_way_) {
    again_ = true;
  } else {
    send();
  }
}

void Reporter::send() {
  under_way_ = true;
  again_ = false;
  const std::uint64_t request = ++request_;
  wire::NodeReport made = report();
  is_ready_ = made.state == wire::NodeState::kReady;
  made.node = name_;
  made.incarnation = incarnation_;
  made.address = "sim://" + name_;
  Scheduler& scheduler = world_.scheduler();
  world_.network.tell(index_, World::kScheduler, scheduler,
                      [&scheduler, from = index_, request, made = std::move(made)] {
                        scheduler.on_report(from, request, made);
                      });
  after(kLossSeen, [this, request] {
    if (!under_way_ || request != request_) return;
    on_link(false);
    on_link(true);
  });
}

void Reporter::on_reply(std::uint64_t request, const wire::ReportReply& reply) {
  if (!under_way_ || request != request_) return;  // too late, or for the second time
  under_way_ = false;
  in_touch_ = loop_.now();
  apply(reply);
  if (again_) send();
}

// ---- worker ----

Worker::Worker(World& world, NodeIndex index, std::string name)
    : Reporter(world, index, std::move(name)) {}

void Worker::start() {
  model_ = {};
  hosted_ = {};
  wanted_.clear();
  epoch_seen_ = 0;
  loading_ = false;
  draining_ = false;
  factor_ = 1;
  busy_until_ = loop_.now();
  start_reporting();
}

void Worker::kill() {
  const std::uint64_t was = incarnation();
  Reporter::kill();
  world_.drop_links(*this, was);
}

void Worker::drain() {
  draining_ = true;
  report_now();
}

wire::NodeReport Worker::report() const {
  wire::NodeReport report;
  report.role = wire::NodeRole::kExpertWorker;
  report.state = draining_         ? wire::NodeState::kDraining
                 : wanted_.empty() ? wire::NodeState::kReady
                                   : wire::NodeState::kStarting;
  report.memory_bytes = 1000 * world_.record().expert_bytes;
  report.epoch_seen = epoch_seen_;
  if (model_.version != 0) report.models.push_back({.model = model_, .ready = hosted_});
  return report;
}

void Worker::apply(const wire::ReportReply& reply) {
  if (reply.assignments.empty()) return;
  const wire::Assignment& assignment = reply.assignments.front();
  if (assignment.epoch <= epoch_seen_) world_.broken(name() + ": an assignment's epoch fell");
  epoch_seen_ = assignment.epoch;
  const auto& record = world_.record();
  if (!(model_ == assignment.model)) {
    model_ = assignment.model;
    hosted_ = wire::ExpertBits(record.layers, record.experts);
  }
  wire::ExpertBits listed(record.layers, record.experts);
  wanted_.clear();
  for (const wire::AssignedExpert& expert : assignment.experts) {
    listed.set(expert.layer, expert.index);
    if (!hosted_.test(expert.layer, expert.index)) wanted_.push_back(expert);
  }
  for (std::uint32_t layer = 0; layer < record.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < record.experts; ++expert) {
      if (!hosted_.test(layer, expert) || listed.test(layer, expert)) continue;
      world_.check_drop(*this, layer, expert);
      hosted_.set(layer, expert, false);
    }
  }
  load_next();
  report_now();
}

void Worker::load_next() {
  if (loading_ || wanted_.empty()) return;
  loading_ = true;
  after(loop_.between(milliseconds(2), milliseconds(60)), [this] {
    loading_ = false;
    if (wanted_.empty()) return;  // no longer asked for
    hosted_.set(wanted_.front().layer, wanted_.front().index);
    wanted_.pop_front();
    report_now();
    load_next();
  });
}

void Worker::on_call(NodeIndex router, std::uint64_t call, std::uint32_t layer,
                     const std::vector<std::uint32_t>& experts, std::size_t pairs) {
  const bool ok = std::ranges::all_of(experts, [&](auto e) { return hosted_.test(layer, e); });
  Time done = loop_.now();
  wire::ExpertReply reply;
  if (ok) {
    const auto compute = Duration(static_cast<Duration::rep>(
        factor_ * static_cast<double>(
                      (microseconds(80) * experts.size() + microseconds(20) * pairs).count())));
    const Time began = std::max(busy_until_, loop_.now());
    done = began + compute;
    busy_until_ = done;
    const auto us = [](Duration time) {
      return static_cast<std::uint32_t>(std::chrono::duration_cast<microseconds>(time).count());
    };
    reply = {true, {}, us(began - loop_.now()), us(compute), static_cast<std::uint32_t>(pairs)};
  }
  after(done - loop_.now(), [this, router, call, ok, reply] {
    auto* to = static_cast<Router*>(world_.node(router));
    world_.network.call(index(), router, *to,
                        [to, call, ok, reply] { to->on_answer(call, ok, reply); });
  });
}

// ---- router ----

Router::Router(World& world, NodeIndex index, std::string name)
    : Reporter(world, index, std::move(name)),
      core_(world.options().experts, dispatch::DispatchOptions{}, world.options().seed + index) {}

void Router::start() {
  start_reporting();
  next_request();
}

wire::NodeReport Router::report() const {
  wire::NodeReport report;
  report.role = wire::NodeRole::kRouter;
  report.state = wire::NodeState::kReady;
  report.epoch_seen = table_ ? table_->epoch : 0;
  return report;
}

void Router::apply(const wire::ReportReply& reply) {
  if (reply.tables.empty()) return;
  const wire::RoutingTable& table = reply.tables.front();
  if (table_ && table.epoch <= table_->epoch) {
    world_.broken(name() + ": a table's epoch fell");
    return;
  }
  world_.check_table(*this, table);
  table_ = std::make_shared<const wire::RoutingTable>(table);
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
    world_.network.call(
        index(), receiver->index(), *receiver,
        [receiver, from = index(), id, layer = layer_, experts = order.experts,
         pairs = order.pairs] { receiver->on_call(from, id, layer, experts, pairs); });
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
