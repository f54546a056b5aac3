// What workers and routers have in common: their reports to the scheduler that leads.
#include "nodes.hpp"
#include "world.hpp"

namespace conclave::sim {
namespace {

constexpr Duration kReportInterval = seconds(1);
constexpr Duration kUnreadyInterval = milliseconds(100);
// A control message that is lost takes its connection with it, and this long later that is seen.
constexpr Duration kLossSeen = seconds(1);

}  // namespace

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

}  // namespace conclave::sim
