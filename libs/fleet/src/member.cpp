#include "conclave/fleet/member.hpp"

#include <algorithm>
#include <atomic>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/state_actor.hpp"
#include "conclave/fleet/scheduler_choice.hpp"

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
                                  caf::reacts_to<caf::connect_atom, fabric::LinkId>,
                                  caf::reacts_to<caf::close_atom, fabric::LinkId>>;

struct ReporterParts {
  fabric::Node& node;
  std::vector<fabric::LinkId> links;  // as the addresses
  MemberOptions options;
  MemberCallbacks callbacks;
  Lease& lease;
  telemetry::Logger log;
};

class ReporterState {
 public:
  static constexpr const char* kName = "conclave.reporter";

  ReporterState(Reporter::pointer self, ReporterParts parts)
      : self_(self), parts_(std::move(parts)), choice_(parts_.options.schedulers) {}

  Reporter::behavior_type make_behavior() {
    self_->set_default_handler(caf::drop);
    self_->delayed_send(self_, pause(), caf::tick_atom_v);
    return {[this](const wire::Nudge&) { report(); },
            [this](caf::tick_atom) {
              choice_.begin_round();
              report();
              probe();
              self_->delayed_send(self_, pause(), caf::tick_atom_v);
            },
            [this](caf::update_atom) { report(); },
            [this](caf::connect_atom, fabric::LinkId link) { connected(link); },
            [this](caf::close_atom, fabric::LinkId link) { disconnected(link); }};
  }

 private:
  // Of a scheduler that leads one hears at the next beat, where there are several.
  [[nodiscard]] std::chrono::milliseconds pause() const {
    const bool may_wait = ready_ && (choice_.is_led() || choice_.size() == 1);
    return may_wait ? parts_.options.interval : std::min(parts_.options.interval, kUnreadyInterval);
  }

  [[nodiscard]] bool holds_lease() const {
    return SteadyClock::now().time_since_epoch().count() <
           parts_.lease.load(std::memory_order_relaxed);
  }

  void connected(fabric::LinkId link) {
    const auto found = std::find(parts_.links.begin(), parts_.links.end(), link);
    if (found == parts_.links.end()) return;  // of another use of this node
    const auto scheduler = static_cast<std::size_t>(found - parts_.links.begin());
    if (scheduler == choice_.current()) {
      proxy_ = nullptr;  // a proxy ends with its link
      came_up_ = true;
    }
    if (!in_flight_) choice_.reachable(scheduler);
    report();
  }

  // A leader that ends is followed by another one; whoever is the only one comes back.
  void disconnected(fabric::LinkId link) {
    if (in_flight_ || link != proxy_link_ || choice_.size() == 1) return;
    proxy_ = nullptr;
    choice_.failed(choice_.current());
    report();
  }

  [[nodiscard]] wire::NodeReport made_report() const {
    wire::NodeReport message = parts_.callbacks.report();
    const fabric::NodeIdentity& identity = parts_.node.identity();
    message.node = identity.name;
    message.role = identity.role;
    message.incarnation = identity.incarnation;
    message.zone = parts_.options.zone;
    message.term = choice_.reported_term(SteadyClock::now());
    return message;
  }

  // The link to a scheduler, which may have been named by another one only now; 0: its address is
  // none.
  fabric::LinkId link_to(std::size_t scheduler) {
    const std::string& address = choice_.address(scheduler);
    const std::size_t configured = parts_.options.schedulers.size();
    if (scheduler < configured) return parts_.links[scheduler];
    if (named_ == address) return parts_.links.back();
    if (parts_.links.size() > configured) {
      parts_.node.disconnect(parts_.links.back());
      parts_.links.pop_back();
    }
    const auto link = parts_.node.connect(address, wire::NodeRole::kScheduler);
    named_ = link ? address : std::string();
    if (link) parts_.links.push_back(*link);
    return link ? *link : 0;
  }

  // One report is under way at a time: what changes meanwhile goes into the next one.
  void report() {
    if (in_flight_) {
      again_ = true;
      return;
    }
    const std::size_t scheduler = choice_.current();
    const fabric::LinkId link = link_to(scheduler);
    if (!proxy_ || proxy_link_ != link) {
      proxy_ = parts_.node.remote<fabric::FleetActor>(link, fabric::kFleetActor);
      proxy_link_ = link;
    }
    wire::NodeReport message = made_report();
    ready_ = message.state == wire::NodeState::kReady;
    in_flight_ = true;
    came_up_ = false;
    const std::uint64_t number = ++report_;
    self_->request(proxy_, kAnswerPatience, std::move(message))
        .then(
            [this, scheduler, number](wire::ReportReply& reply) {
              if (number == report_) answered(scheduler, reply);
            },
            [this, scheduler, number](const caf::error& error) {
              if (number == report_) failed(scheduler, error);
            });
  }

  // Another scheduler may lead by now, and the one that answers not know it.
  void probe() {
    const auto other = choice_.probe(SteadyClock::now());
    if (!other) return;
    const auto scheduler =
        parts_.node.remote<fabric::FleetActor>(link_to(*other), fabric::kFleetActor);
    self_->request(scheduler, kAnswerPatience, made_report())
        .then(
            [this, other](wire::ReportReply& reply) {
              // Since then it was reported to in earnest.
              if (*other == choice_.current() || !heard(*other, reply)) return;
              in_flight_ = false;  // what the former leader answers does not count any more
              ++report_;
              again_ = false;
              this->report();
            },
            [](const caf::error&) {});
  }

  void answered(std::size_t scheduler, wire::ReportReply& reply) {
    in_flight_ = false;
    const bool was_led = choice_.is_led();
    if (!heard(scheduler, reply) && (was_led || choice_.may_try_at_once())) again_ = true;
    if (std::exchange(again_, false)) report();
  }

  // Whether it leads, and its answer was applied.
  bool heard(std::size_t scheduler, wire::ReportReply& reply) {
    const std::uint64_t term = choice_.term();
    if (!choice_.answered(scheduler, reply, SteadyClock::now())) return false;
    if (choice_.term() > term) again_ = true;  // a leader counts on what is said under its own term
    const fabric::LinkId link = link_to(scheduler);
    if (!reachable_) parts_.log.info("scheduler_reached", {{"epoch", reply.epoch}});
    reachable_ = true;
    const auto until = SteadyClock::now() + std::chrono::milliseconds(reply.lease_ms);
    parts_.lease.store(until.time_since_epoch().count(), std::memory_order_relaxed);
    leased_ = true;
    if (std::exchange(leader_, link) != link && parts_.callbacks.led) parts_.callbacks.led(link);
    parts_.callbacks.apply(std::move(reply));
    return true;
  }

  // The next tick tries anew, or the link's coming up again.
  void failed(std::size_t scheduler, const caf::error& error) {
    in_flight_ = false;
    proxy_ = nullptr;
    choice_.failed(scheduler);
    const bool was_reachable = std::exchange(reachable_, false);
    const std::string reason = fabric::from_caf(error).message;
    if (was_reachable) parts_.log.info("scheduler_lost", {{"error", reason}});
    // A scheduler that comes back within the lease was missed by nobody.
    if (leased_ && !holds_lease()) {
      leased_ = false;
      parts_.log.warn("scheduler_away", {{"error", reason}});
    }
    // Not at once if it failed before: without a link every try fails on the spot.
    const bool is_wanted = std::exchange(again_, false) && (was_reachable || came_up_);
    if (is_wanted || (choice_.size() > 1 && choice_.may_try_at_once())) report();
  }

  Reporter::pointer self_;
  ReporterParts parts_;
  SchedulerChoice choice_;
  fabric::FleetActor proxy_;
  fabric::LinkId proxy_link_ = 0;
  fabric::LinkId leader_ = 0;  // who led last
  std::string named_;          // address of the last link, if none of the settings'
  bool ready_ = false;         // as last reported
  std::uint64_t report_ = 0;   // number of the one that is in flight, or was
  bool in_flight_ = false;
  bool came_up_ = false;  // the current scheduler's link, since that report was made
  bool again_ = false;
  bool reachable_ = false;
  bool leased_ = false;  // and not yet said to have lapsed
};

}  // namespace

class Member::Impl {
 public:
  Impl(fabric::Node& node, caf::actor_system& system, std::vector<fabric::LinkId> links,
       const MemberOptions& options, MemberCallbacks callbacks, telemetry::Logger log)
      : node_(node), system_(system), links_(std::move(links)) {
    const Reporter reporter = system.spawn<fabric::StateActor<Reporter, ReporterState>>(
        ReporterParts{node, links_, options, std::move(callbacks), lease_, std::move(log)});
    constexpr wire::NodeRole kScheduler[] = {wire::NodeRole::kScheduler};
    node.publish(fabric::kReporterActor, reporter, fabric::Run::kScheduled, kScheduler);
    reporter_ = caf::actor_cast<caf::actor>(reporter);
    node.on_link([actor = reporter_](const fabric::LinkEvent& event) {
      if (event.peer.role != wire::NodeRole::kScheduler) return;
      if (event.up) {
        caf::anon_send(actor, caf::connect_atom_v, event.link);
      } else {
        caf::anon_send(actor, caf::close_atom_v, event.link);
      }
    });
  }

  // The actor uses the node and the callbacks: it must have ended before they do.
  ~Impl() {
    for (const fabric::LinkId link : links_) node_.disconnect(link);
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
  const std::vector<fabric::LinkId> links_;  // one that a scheduler named goes with the node
  Lease lease_{0};
  caf::actor reporter_;
};

Member::Member(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Member::~Member() = default;

base::Result<std::unique_ptr<Member>> Member::join(fabric::Node& node, caf::actor_system& system,
                                                   const MemberOptions& options,
                                                   MemberCallbacks callbacks,
                                                   telemetry::Logger log) {
  if (options.schedulers.empty() || options.schedulers.size() > MemberOptions::kSchedulersMax) {
    return base::fail(
        base::ErrorCode::kInvalidArgument,
        "fleet.scheduler has 1 to " + std::to_string(MemberOptions::kSchedulersMax) + " addresses");
  }
  std::vector<fabric::LinkId> links;
  for (const std::string& address : options.schedulers) {
    const auto link = node.connect(address, wire::NodeRole::kScheduler);
    if (!link) {
      for (const fabric::LinkId open : links) node.disconnect(open);
      return base::fail(link.error());
    }
    links.push_back(*link);
  }
  return std::unique_ptr<Member>(new Member(std::make_unique<Impl>(
      node, system, std::move(links), options, std::move(callbacks), std::move(log))));
}

void Member::report_now() { impl_->report_now(); }
bool Member::in_touch() const { return impl_->in_touch(); }

}  // namespace conclave::fleet
