// A worker: loads what it is assigned, drops the rest, answers calls.
#include <algorithm>

#include "nodes.hpp"
#include "world.hpp"

namespace conclave::sim {

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

}  // namespace conclave::sim
