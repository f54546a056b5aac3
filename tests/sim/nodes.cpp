#include "nodes.hpp"

#include <algorithm>

#include "conclave/placement/planner.hpp"
#include "conclave/wire/limits.hpp"
#include "kept.hpp"
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
constexpr Duration kLeadLease = milliseconds(1500);

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

wire::LeaseReply Registry::lease(const std::string& holder, Duration ttl) {
  if (holder_ != holder && loop_.now() < until_) return {holder_, token_, 0};
  if (holder_ != holder || loop_.now() >= until_) ++token_;
  holder_ = holder;
  until_ = loop_.now() + ttl;
  return {holder_, token_, 0};
}

void Registry::put(std::uint64_t token, std::string kept) {
  if (token == token_) kept_ = std::move(kept);
}

Scheduler::Scheduler(World& world, NodeIndex index, std::string address)
    : Process(world.loop), world_(world), index_(index), address_(std::move(address)) {}

void Scheduler::start() {
  begin_life();
  lead_.reset();
  leased_until_ = {};
  if (world_.options().schedulers == 1) {
    begin_lead({});
  } else {
    lead_.emplace(scheduler::holder_name(address_, life(), address_), true);
    ask_for_lead();
  }
  tick();
  tell_links(true);
}

void Scheduler::begin_lead(const std::string& kept) {
  scheduler::SchedulerSettings settings;
  settings.replicas = world_.options().replicas;
  settings.lease = World::kLease;
  settings.grace = milliseconds(300);
  const auto wall = std::chrono::system_clock::time_point(std::chrono::hours(24 * 365 * 50)) +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(loop_.age());
  core_ = std::make_unique<scheduler::SchedulerCore>(
      settings, std::make_unique<RestlessPlanner>(loop_), wall, loop_.now(), telemetry::Logger());
  kept_change_ = 0;
  if (lead_) {
    auto known = scheduler::from_document(kept);
    if (!known) return world_.broken("what is kept is not understood");
    core_->restore(*std::move(known), loop_.now());
  }
  const std::uint64_t lead = ++leads_begun_;
  after(loop_.between(milliseconds(1), milliseconds(1500)), [this, lead] {
    if (lead != leads_begun_ || !core_) return;
    std::vector<scheduler::WantedModel> wanted;
    for (const wire::ModelRecord& record : world_.records()) {
      wanted.push_back(
          {.record = record,
           .digests = std::make_shared<const wire::ModelDigests>(World::digests(record)),
           .policy = {},
           .pins = {}});
    }
    if (!core_->on_models(std::move(wanted), loop_.now())) {
      world_.broken("the scheduler refuses the model");
    }
    send_nudges();
  });
}

void Scheduler::ask_for_lead() {
  after(kLeadLease / 6, [this] { ask_for_lead(); });
  Registry& registry = world_.registry();
  world_.network.tell(
      index_, World::kRegistry, registry,
      [this, &registry, life = this->life(), holder = lead_->holder(), asked = loop_.now()] {
        auto reply = registry.lease(holder, kLeadLease);
        world_.network.tell(World::kRegistry, index_, *this,
                            [this, life, reply, kept = registry.kept(), asked] {
                              if (life == this->life()) hear(reply, kept, asked);
                            });
      });
}

void Scheduler::hear(const wire::LeaseReply& reply, const std::string& kept, Time asked) {
  if (reply.holder == lead_->holder()) leased_until_ = std::max(leased_until_, asked + kLeadLease);
  changed(lead_->heard(reply), kept);
  if (core_) core_->lead(lead_->term(), leased_until_);
}

void Scheduler::changed(scheduler::Leadership::Change change, const std::string& kept) {
  using Change = scheduler::Leadership::Change;
  if (change == Change::kNone || change == Change::kFollowed) return;
  world_.note(address_ + (change == Change::kBegan ? " leads, term " : " is replaced, by term ") +
              std::to_string(lead_->term()));
  core_.reset();
  if (change == Change::kBegan) begin_lead(kept);
}

void Scheduler::keep() {
  if (!lead_ || core_->kept_change() == kept_change_) return;
  kept_change_ = core_->kept_change();
  Registry& registry = world_.registry();
  world_.network.tell(index_, World::kRegistry, registry,
                      [&registry, token = lead_->token(),
                       kept = scheduler::to_document(core_->kept(), wire::kStateBytesMax)] {
                        registry.put(token, kept);
                      });
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
      if (own != this->life() || world_.network.is_cut(index_, node->index())) return;
      node->run(life, [this, node, up] { node->on_link(world_.number_of(*this), up); });
    });
  }
}

void Scheduler::tick() {
  after(milliseconds(100), [this] { tick(); });
  if (!core_) return;
  core_->on_tick(loop_.now());
  keep();
  send_nudges();
}

void Scheduler::on_report(NodeIndex from, std::uint64_t request, const wire::NodeReport& report) {
  std::optional<wire::ReportReply> answer;
  if (core_ && lead_ && report.term > lead_->term() && loop_.now() >= leased_until_) {
    changed(lead_->outdone(report.term), {});
  }
  if (core_) {
    auto reply = core_->on_report(report, loop_.now());
    if (!reply) return send_nudges();
    answer = *std::move(reply);
    if (lead_) answer->term = lead_->term();
  } else if (!lead_->leader().empty()) {
    answer.emplace();
    answer->term = lead_->term();
    answer->leader = lead_->leader();
  }
  Reporter* node = world_.node(from);
  world_.network.tell(index_, from, *node,
                      [node, request, answer, number = world_.number_of(*this)] {
                        node->on_reply(number, request, answer);
                      });
  if (core_) send_nudges();
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
      world_.network.tell(index_, i, *node, [node] { node->on_nudge(); });
    }
  }
}

// ---- reporter ----

Reporter::Reporter(World& world, NodeIndex index, std::string name)
    : Process(world.loop),
      world_(world),
      index_(index),
      name_(std::move(name)),
      choice_(world.addresses()) {}

void Reporter::start_reporting() {
  begin_life();
  choice_ = fleet::SchedulerChoice(world_.addresses());
  incarnation_ = world_.next_incarnation();
  under_way_ = false;
  again_ = false;
  beat();
}

void Reporter::kill() { end_life(); }

void Reporter::beat() {
  choice_.begin_round();
  report_now();
  if (const auto other = choice_.probe(loop_.now())) send_to(*other, 0);
  const bool may_wait = is_ready_ && (choice_.is_led() || choice_.size() == 1);
  after(may_wait ? kReportInterval : kUnreadyInterval, [this] { beat(); });
}

void Reporter::on_link(std::size_t scheduler, bool up) {
  if (scheduler != choice_.current()) {
    if (up && !under_way_) choice_.reachable(scheduler);
    if (up) report_now();
    return;
  }
  under_way_ = false;  // an answer to what was under way will not come
  if (!up) choice_.failed(scheduler);
  if (up || (choice_.size() > 1 && choice_.may_try_at_once())) send();
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
  const std::size_t scheduler = choice_.current();
  send_to(scheduler, request);
  after(kLossSeen, [this, request, scheduler] {
    if (!under_way_ || request != request_) return;
    under_way_ = false;  // also if another one is followed by now
    on_link(scheduler, false);
    if (choice_.size() == 1) on_link(scheduler, true);
  });
}

void Reporter::send_to(std::size_t scheduler, std::uint64_t request) {
  wire::NodeReport made = report();
  is_ready_ = made.state == wire::NodeState::kReady;
  made.node = name_;
  made.incarnation = incarnation_;
  made.term = choice_.reported_term(loop_.now());
  made.address = "sim://" + name_;
  Scheduler& to = *world_.schedulers()[scheduler];
  world_.network.tell(
      index_, to.index(), to,
      [&to, from = index_, request, made = std::move(made)] { to.on_report(from, request, made); });
}

void Reporter::on_reply(std::size_t scheduler, std::uint64_t request,
                        const std::optional<wire::ReportReply>& reply) {
  if (request == 0) {
    if (scheduler == choice_.current()) return;  // since then it was reported to in earnest
  } else {
    if (!under_way_ || request != request_) return;  // too late, or for the second time
    under_way_ = false;
  }
  const std::uint64_t term = choice_.term();
  if (!reply && request != 0) choice_.failed(scheduler);
  if (reply && choice_.answered(scheduler, *reply, loop_.now())) {
    if (reply->term < term) world_.broken(name_ + ": takes the word of a leader that was replaced");
    in_touch_ = loop_.now();
    if (reply->term > term) again_ = true;
    if (request == 0) under_way_ = false;  // the former leader's answer does not count any more
    apply(*reply);
  } else if (request != 0 && choice_.may_try_at_once()) {
    again_ = true;
  }
  if (again_ && !under_way_) send();
}

// ---- worker ----

Worker::Worker(World& world, NodeIndex index, std::string name)
    : Reporter(world, index, std::move(name)) {}

void Worker::start() {
  hosted_.clear();
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
  for (const auto& [version, hosted] : hosted_) {
    report.models.push_back({.model = hosted.model, .ready = hosted.ready});
  }
  return report;
}

bool Worker::hosts(std::uint32_t version, std::uint32_t layer, std::uint32_t expert) const {
  const auto hosted = hosted_.find(version);
  return is_alive() && hosted != hosted_.end() && hosted->second.ready.test(layer, expert);
}

void Worker::apply(const wire::ReportReply& reply) {
  if (reply.assignments.empty()) return;
  const wire::Assignment& assignment = reply.assignments.front();
  if (assignment.epoch <= epoch_seen_) world_.broken(name() + ": an assignment's epoch fell");
  epoch_seen_ = assignment.epoch;
  const auto& record = world_.record();
  std::map<std::uint32_t, wire::ExpertBits> listed;
  wanted_.clear();
  for (const wire::Assignment& of : reply.assignments) {
    const std::uint32_t version = of.model.version;
    if (version == 0) continue;
    const wire::ExpertBits none(record.layers, record.experts);
    hosted_.try_emplace(version, Hosted{of.model, none});
    wire::ExpertBits& all = listed.emplace(version, none).first->second;
    for (const wire::AssignedExpert& expert : of.experts) {
      all.set(expert.layer, expert.index);
      if (!hosts(version, expert.layer, expert.index)) wanted_.emplace_back(version, expert);
    }
  }
  for (const auto& [version, hosted] : hosted_) drop_unlisted(version, listed[version]);
  std::erase_if(hosted_, [&](const auto& hosted) { return listed[hosted.first].layers() == 0; });
  load_next();
  report_now();
}

void Worker::drop_unlisted(std::uint32_t version, const wire::ExpertBits& listed) {
  wire::ExpertBits& ready = hosted_.at(version).ready;
  for (std::uint32_t layer = 0; layer < ready.layers(); ++layer) {
    for (std::uint32_t expert = 0; expert < ready.experts(); ++expert) {
      if (!ready.test(layer, expert) || listed.test(layer, expert)) continue;
      world_.check_drop(*this, version, layer, expert);
      ready.set(layer, expert, false);
    }
  }
}

void Worker::load_next() {
  if (loading_ || wanted_.empty()) return;
  loading_ = true;
  after(loop_.between(milliseconds(2), milliseconds(60)), [this] {
    loading_ = false;
    if (wanted_.empty()) return;  // no longer asked for
    const auto& [version, expert] = wanted_.front();
    hosted_.at(version).ready.set(expert.layer, expert.index);
    wanted_.pop_front();
    report_now();
    load_next();
  });
}

void Worker::on_call(NodeIndex router, std::uint64_t id, const Call& call) {
  const bool ok = std::ranges::all_of(
      call.experts, [&](auto expert) { return hosts(call.version, call.layer, expert); });
  Time done = loop_.now();
  wire::ExpertReply reply;
  if (ok) {
    const auto compute = Duration(static_cast<Duration::rep>(
        factor_ *
        static_cast<double>(
            (microseconds(80) * call.experts.size() + microseconds(20) * call.pairs).count())));
    const Time began = std::max(busy_until_, loop_.now());
    done = began + compute;
    busy_until_ = done;
    const auto us = [](Duration time) {
      return static_cast<std::uint32_t>(std::chrono::duration_cast<microseconds>(time).count());
    };
    reply = {
        true, {}, us(began - loop_.now()), us(compute), static_cast<std::uint32_t>(call.pairs)};
  }
  after(done - loop_.now(), [this, router, id, ok, reply] {
    auto* to = static_cast<Router*>(world_.node(router));
    world_.network.call(index(), router, *to,
                        [to, id, ok, reply] { to->on_answer(id, ok, reply); });
  });
}

// ---- router ----

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
