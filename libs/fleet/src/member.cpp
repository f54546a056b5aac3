#include "conclave/fleet/member.hpp"

#include <atomic>
#include <caf/all.hpp>
#include <mutex>
#include <utility>

#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/state_actor.hpp"

namespace conclave::fleet {

using SteadyClock = std::chrono::steady_clock;

// Lives as long as the member or its actor, whichever is later: callbacks are cut off under the
// mutex, so that none runs once the member is gone.
struct Member::Shared {
  Shared(fabric::Node& the_node, fabric::LinkId the_link, const MemberOptions& the_options,
         MemberCallbacks the_callbacks, telemetry::Logger the_log)
      : node(the_node),
        link(the_link),
        options(the_options),
        log(std::move(the_log)),
        callbacks(std::move(the_callbacks)) {}

  fabric::Node& node;
  const fabric::LinkId link;
  const MemberOptions options;
  const telemetry::Logger log;
  caf::actor reporter;

  std::mutex mutex;  // guards callbacks
  MemberCallbacks callbacks;
  std::atomic<SteadyClock::rep> lease_until{0};

  void answered(std::uint32_t lease_ms) {
    const auto until = SteadyClock::now() + std::chrono::milliseconds(lease_ms);
    lease_until.store(until.time_since_epoch().count(), std::memory_order_relaxed);
  }
};

namespace {

// The actor's whole interface: what the fabric publishes, and what the member itself sends.
using Reporter =
    fabric::ReporterActor::extend<caf::reacts_to<caf::tick_atom>, caf::reacts_to<caf::update_atom>,
                                  caf::reacts_to<caf::connect_atom>>;

}  // namespace

// A template, because Member::Shared has no name out here.
template <class Shared>
class ReporterState {
 public:
  static constexpr const char* kName = "conclave.reporter";

  ReporterState(Reporter::pointer self, std::shared_ptr<Shared> shared)
      : self_(self), shared_(std::move(shared)) {}

  Reporter::behavior_type make_behavior() {
    self_->set_default_handler(caf::drop);
    self_->delayed_send(self_, shared_->options.interval, caf::tick_atom_v);
    return {[this](const wire::Nudge&) { report(); },
            [this](caf::tick_atom) {
              self_->delayed_send(self_, shared_->options.interval, caf::tick_atom_v);
              report();
            },
            [this](caf::update_atom) { report(); },
            [this](caf::connect_atom) {
              scheduler_ = nullptr;
              report();
            }};
  }

 private:
  // One report is under way at a time: what changes meanwhile goes into the next one.
  void report() {
    if (in_flight_) {
      again_ = true;
      return;
    }
    wire::NodeReport message;
    {
      const std::lock_guard lock(shared_->mutex);
      if (!shared_->callbacks.report) return;
      message = shared_->callbacks.report();
    }
    const fabric::NodeIdentity& identity = shared_->node.identity();
    message.node = identity.name;
    message.role = identity.role;
    message.incarnation = identity.incarnation;
    if (!scheduler_) {
      scheduler_ =
          shared_->node.template remote<fabric::FleetActor>(shared_->link, fabric::kFleetActor);
    }
    in_flight_ = true;
    self_->request(scheduler_, std::chrono::seconds(5), std::move(message))
        .then([this](wire::ReportReply& reply) { answered(reply); },
              [this](const caf::error&) { failed(); });
  }

  void answered(wire::ReportReply& reply) {
    in_flight_ = false;
    if (!reachable_) shared_->log.info("scheduler_reached", {{"epoch", reply.epoch}});
    reachable_ = true;
    shared_->answered(reply.lease_ms);
    {
      const std::lock_guard lock(shared_->mutex);
      if (shared_->callbacks.apply) shared_->callbacks.apply(std::move(reply));
    }
    if (std::exchange(again_, false)) report();
  }

  // The next tick, or the link's coming up again, tries anew.
  void failed() {
    in_flight_ = false;
    again_ = false;
    scheduler_ = nullptr;
    if (reachable_) shared_->log.warn("scheduler_lost", {});
    reachable_ = false;
  }

  Reporter::pointer self_;
  std::shared_ptr<Shared> shared_;
  fabric::FleetActor scheduler_;
  bool in_flight_ = false;
  bool again_ = false;
  bool reachable_ = false;
};

Member::Member(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

base::Result<std::unique_ptr<Member>> Member::join(fabric::Node& node, caf::actor_system& system,
                                                   const MemberOptions& options,
                                                   MemberCallbacks callbacks,
                                                   telemetry::Logger log) {
  CONCLAVE_TRY(const fabric::LinkId link,
               node.connect(options.scheduler, wire::NodeRole::kScheduler));
  auto shared = std::make_shared<Shared>(node, link, options, std::move(callbacks), std::move(log));
  const Reporter reporter =
      system.spawn<fabric::StateActor<Reporter, ReporterState<Shared>>>(shared);
  shared->reporter = caf::actor_cast<caf::actor>(reporter);
  constexpr wire::NodeRole kScheduler[] = {wire::NodeRole::kScheduler};
  node.publish(fabric::kReporterActor, shared->reporter, fabric::Run::kScheduled, kScheduler);
  node.on_link([link, actor = shared->reporter](const fabric::LinkEvent& event) {
    if (event.link == link && event.up) caf::anon_send(actor, caf::connect_atom_v);
  });
  return std::unique_ptr<Member>(new Member(std::move(shared)));
}

Member::~Member() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->callbacks = {};
  }
  shared_->node.disconnect(shared_->link);
  caf::anon_send_exit(shared_->reporter, caf::exit_reason::user_shutdown);
  shared_->reporter = {};  // the actor and `shared_` hold each other until here
}

void Member::report_now() { caf::anon_send(shared_->reporter, caf::update_atom_v); }

bool Member::in_touch() const {
  return SteadyClock::now().time_since_epoch().count() <
         shared_->lease_until.load(std::memory_order_relaxed);
}

}  // namespace conclave::fleet
