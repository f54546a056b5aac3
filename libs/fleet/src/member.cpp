#include "conclave/fleet/member.hpp"

#include <algorithm>
#include <atomic>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/state_actor.hpp"

namespace conclave::fleet {

using SteadyClock = std::chrono::steady_clock;

namespace {

// An answer is a look-up and takes milliseconds; a scheduler that is silent for so long hangs.
constexpr std::chrono::seconds kAnswerPatience{5};

// A node that is not ready waits for others, and others for it: people wait for them all.
constexpr std::chrono::milliseconds kUnreadyInterval{100};

// Until when the scheduler counts on this node, as both sides see it.
using Lease = std::atomic<SteadyClock::rep>;

// The actor's whole interface: what the fabric publishes, and what the member itself sends.
using Reporter =
    fabric::ReporterActor::extend<caf::reacts_to<caf::tick_atom>, caf::reacts_to<caf::update_atom>,
                                  caf::reacts_to<caf::connect_atom>>;

struct ReporterParts {
  fabric::Node& node;
  fabric::LinkId link = 0;
  std::chrono::milliseconds interval{};
  MemberCallbacks callbacks;
  Lease& lease;
  telemetry::Logger log;
};

class ReporterState {
 public:
  static constexpr const char* kName = "conclave.reporter";

  ReporterState(Reporter::pointer self, ReporterParts parts)
      : self_(self), parts_(std::move(parts)) {}

  Reporter::behavior_type make_behavior() {
    self_->set_default_handler(caf::drop);
    self_->delayed_send(self_, pause(), caf::tick_atom_v);
    return {[this](const wire::Nudge&) { report(); },
            [this](caf::tick_atom) {
              report();
              self_->delayed_send(self_, pause(), caf::tick_atom_v);
            },
            [this](caf::update_atom) { report(); },
            [this](caf::connect_atom) {
              scheduler_ = nullptr;  // a proxy ends with its link
              report();
            }};
  }

 private:
  [[nodiscard]] std::chrono::milliseconds pause() const {
    return ready_ ? parts_.interval : std::min(parts_.interval, kUnreadyInterval);
  }

  [[nodiscard]] bool holds_lease() const {
    return SteadyClock::now().time_since_epoch().count() <
           parts_.lease.load(std::memory_order_relaxed);
  }

  // One report is under way at a time: what changes meanwhile goes into the next one.
  void report() {
    if (in_flight_) {
      again_ = true;
      return;
    }
    wire::NodeReport message = parts_.callbacks.report();
    const fabric::NodeIdentity& identity = parts_.node.identity();
    message.node = identity.name;
    message.role = identity.role;
    message.incarnation = identity.incarnation;
    if (!scheduler_) {
      scheduler_ = parts_.node.remote<fabric::FleetActor>(parts_.link, fabric::kFleetActor);
    }
    ready_ = message.state == wire::NodeState::kReady;
    in_flight_ = true;
    self_->request(scheduler_, kAnswerPatience, std::move(message))
        .then([this](wire::ReportReply& reply) { answered(reply); },
              [this](const caf::error& error) { failed(error); });
  }

  void answered(wire::ReportReply& reply) {
    in_flight_ = false;
    if (!reachable_) parts_.log.info("scheduler_reached", {{"epoch", reply.epoch}});
    reachable_ = true;
    const auto until = SteadyClock::now() + std::chrono::milliseconds(reply.lease_ms);
    parts_.lease.store(until.time_since_epoch().count(), std::memory_order_relaxed);
    leased_ = true;
    parts_.callbacks.apply(std::move(reply));
    if (std::exchange(again_, false)) report();
  }

  // The next tick tries anew, or the link's coming up again.
  void failed(const caf::error& error) {
    in_flight_ = false;
    scheduler_ = nullptr;
    const bool was_reachable = std::exchange(reachable_, false);
    const std::string reason = fabric::from_caf(error).message;
    if (was_reachable) parts_.log.info("scheduler_lost", {{"error", reason}});
    // A scheduler that comes back within the lease was missed by nobody.
    if (leased_ && !holds_lease()) {
      leased_ = false;
      parts_.log.warn("scheduler_away", {{"error", reason}});
    }
    // Not at once if it failed before: without a link every try fails on the spot.
    if (std::exchange(again_, false) && was_reachable) report();
  }

  Reporter::pointer self_;
  ReporterParts parts_;
  fabric::FleetActor scheduler_;
  bool ready_ = false;  // as last reported
  bool in_flight_ = false;
  bool again_ = false;
  bool reachable_ = false;
  bool leased_ = false;  // and not yet said to have lapsed
};

}  // namespace

class Member::Impl {
 public:
  Impl(fabric::Node& node, caf::actor_system& system, fabric::LinkId link,
       std::chrono::milliseconds interval, MemberCallbacks callbacks, telemetry::Logger log)
      : node_(node), system_(system), link_(link) {
    const Reporter reporter = system.spawn<fabric::StateActor<Reporter, ReporterState>>(
        ReporterParts{node, link, interval, std::move(callbacks), lease_, std::move(log)});
    constexpr wire::NodeRole kScheduler[] = {wire::NodeRole::kScheduler};
    node.publish(fabric::kReporterActor, reporter, fabric::Run::kScheduled, kScheduler);
    reporter_ = caf::actor_cast<caf::actor>(reporter);
    node.on_link([link, actor = reporter_](const fabric::LinkEvent& event) {
      if (event.link == link && event.up) caf::anon_send(actor, caf::connect_atom_v);
    });
  }

  // The actor uses the node and the callbacks: it must have ended before they do.
  ~Impl() {
    node_.disconnect(link_);
    caf::anon_send_exit(reporter_, caf::exit_reason::user_shutdown);
    caf::scoped_actor self{system_};
    self->wait_for(reporter_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void report_now() { caf::anon_send(reporter_, caf::update_atom_v); }

  [[nodiscard]] bool in_touch() const {
    return SteadyClock::now().time_since_epoch().count() < lease_.load(std::memory_order_relaxed);
  }

 private:
  fabric::Node& node_;
  caf::actor_system& system_;
  const fabric::LinkId link_;
  Lease lease_{0};
  caf::actor reporter_;
};

Member::Member(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Member::~Member() = default;

base::Result<std::unique_ptr<Member>> Member::join(fabric::Node& node, caf::actor_system& system,
                                                   const MemberOptions& options,
                                                   MemberCallbacks callbacks,
                                                   telemetry::Logger log) {
  CONCLAVE_TRY(const fabric::LinkId link,
               node.connect(options.scheduler, wire::NodeRole::kScheduler));
  return std::unique_ptr<Member>(new Member(std::make_unique<Impl>(
      node, system, link, options.interval, std::move(callbacks), std::move(log))));
}

void Member::report_now() { impl_->report_now(); }
bool Member::in_touch() const { return impl_->in_touch(); }

}  // namespace conclave::fleet
