#include "conclave/scheduler/scheduler_service.hpp"

#include <algorithm>
#include <atomic>
#include <caf/all.hpp>
#include <utility>
#include <vector>

#include "conclave/fabric/state_actor.hpp"
#include "conclave/placement/planner.hpp"
#include "scheduler_actor.hpp"

namespace conclave::scheduler {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

// A row's transaction. Whoever ends does not wait for a registry that is away.
constexpr std::chrono::milliseconds kResignPatience{500};

}  // namespace

class SchedulerService::Impl {
 public:
  Impl(const Settings& settings, app::ServiceContext& context, const Lent& lent)
      : settings_(settings), context_(context), lent_(lent) {}

  Status start() {
    CONCLAVE_TRY(process_, fleet::ProcessRef::take(lent_.process, settings_.fabric.keys,
                                                   wire::NodeRole::kScheduler, context_.log,
                                                   context_.metrics));
    const fabric::NodeIdentity identity{context_.node_name, wire::NodeRole::kScheduler,
                                        fleet::incarnation_at(context_.wall_clock())};
    CONCLAVE_TRY(node_, fabric::Node::create(process_->context(), process_->system(), identity,
                                             settings_.fabric.links, context_.wall_clock));
    std::vector<fabric::LinkId> registries;
    for (const std::string& address : settings_.scheduler.registry) {
      CONCLAVE_TRY(const fabric::LinkId link, node_->connect(address, wire::NodeRole::kRegistry));
      registries.push_back(link);
    }
    start_actor(registries);
    CONCLAVE_TRY(address_, node_->listen(settings_.scheduler.listen));
    start_lead(registries, identity.incarnation);
    started_ = true;
    context_.log.info("scheduler_started",
                      {{"address", address_}, {"model", settings_.scheduler.model}});
    return {};
  }

  [[nodiscard]] Status ready() const {
    if (!started_) return fail(ErrorCode::kUnavailable, "starting or stopped");
    return {};
  }

  // Another one may lead at once, and need not wait for the lease to lapse.
  void drain() {
    if (!lead_) return;
    caf::scoped_actor self(process_->system());
    self->request(lead_, kResignPatience, Resign{})
        .receive([](const caf::unit_t&) {}, [](const caf::error&) {});
  }

  void stop() {
    started_ = false;
    if (node_) node_->stop(std::chrono::milliseconds(200));
    end(lead_);
    end(actor_);
    node_.reset();
  }

  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  void start_actor(const std::vector<fabric::LinkId>& registries) {
    const auto make_core = [this] {
      return std::make_unique<SchedulerCore>(settings_.scheduler,
                                             std::make_unique<placement::EplbFtPlanner>(),
                                             context_.wall_clock(), context_.now(), context_.log);
    };
    auto parts = std::make_shared<SchedulerParts>(
        SchedulerParts{*node_, RegistryList(registries), settings_.scheduler, make_core,
                       SchedulerMetrics(context_.metrics, settings_.scheduler.expert_series_max),
                       context_.log, context_.now});
    const SchedulerActor actor =
        process_->system().spawn<fabric::StateActor<SchedulerActor, SchedulerState>>(
            std::move(parts));
    actor_ = caf::actor_cast<caf::actor>(actor);
    node_->publish(fabric::kFleetActor, actor, fabric::Run::kScheduled);
    constexpr wire::NodeRole kRegistries[] = {wire::NodeRole::kRegistry};
    node_->publish(fabric::kWatcherActor, actor, fabric::Run::kScheduled, kRegistries);
    constexpr wire::NodeRole kAdministrators[] = {wire::NodeRole::kGateway};
    node_->publish(fabric::kAdminActor, actor, fabric::Run::kScheduled, kAdministrators);
    node_->on_link([registries, actor = actor_](const fabric::LinkEvent& event) {
      if (event.up && std::ranges::find(registries, event.link) != registries.end()) {
        caf::anon_send(actor, caf::connect_atom_v);
      }
    });
  }

  void start_lead(const std::vector<fabric::LinkId>& registries, std::uint64_t incarnation) {
    const bool elected = settings_.scheduler.elect;
    const std::string address = fleet::advertised_address(settings_.scheduler.advertise, address_,
                                                          settings_.scheduler.registry);
    lead_ = process_->system().spawn<fabric::StateActor<LeadActor, LeadState>>(
        LeadParts{*node_, RegistryList(registries), caf::actor_cast<LedActor>(actor_),
                  Leadership(holder_name(context_.node_name, incarnation, address), elected),
                  elected, settings_.scheduler.leader_lease, context_.log, context_.now});
    node_->on_link([registries, lead = lead_](const fabric::LinkEvent& event) {
      if (event.up && std::ranges::find(registries, event.link) != registries.end()) {
        caf::anon_send(lead, caf::connect_atom_v);
      }
    });
  }

  // Its state uses the node.
  template <class Handle>
  void end(Handle& actor) {
    if (!actor) return;
    caf::scoped_actor self(process_->system());
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    self->wait_for(actor);
    actor = Handle();
  }

  const Settings settings_;
  app::ServiceContext& context_;
  const Lent lent_;

  fleet::ProcessRef process_;
  std::unique_ptr<fabric::Node> node_;
  caf::actor actor_;
  LeadActor lead_;
  std::string address_;
  std::atomic<bool> started_{false};
};

SchedulerService::SchedulerService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SchedulerService::~SchedulerService() { stop(); }

base::Result<std::unique_ptr<SchedulerService>> SchedulerService::create(
    const Settings& settings, app::ServiceContext& context, const Lent& lent) {
  return std::unique_ptr<SchedulerService>(
      new SchedulerService(std::make_unique<Impl>(settings, context, lent)));
}

Status SchedulerService::start() { return impl_->start(); }
Status SchedulerService::ready() const { return impl_->ready(); }
void SchedulerService::drain(std::chrono::steady_clock::time_point) { impl_->drain(); }
void SchedulerService::stop() { impl_->stop(); }
std::string SchedulerService::address() const { return impl_->address(); }

}  // namespace conclave::scheduler
