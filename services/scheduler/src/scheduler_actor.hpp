// The scheduler as nodes reach it: reports in, replies and nudges out; asks the registry what is to
// be served. While it does not lead it says who does. Decides nothing.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "fleet_admin.hpp"
#include "lead_actor.hpp"
#include "registry_list.hpp"
#include "scheduler_core.hpp"
#include "scheduler_metrics.hpp"
#include "wanted_book.hpp"

namespace conclave::scheduler {

using SchedulerActor =
    fabric::FleetActor::extend<caf::replies_to<wire::AdminRequest>::with<wire::AdminReply>,
                               caf::reacts_to<wire::CatalogChanged>, caf::reacts_to<caf::tick_atom>,
                               caf::reacts_to<caf::connect_atom>, caf::reacts_to<LeadChange>,
                               caf::reacts_to<Leased>, caf::reacts_to<KeptUntil>,
                               caf::replies_to<KeptQuestion>::with<KeptAnswer>>;

struct SchedulerParts {
  fabric::Node& node;
  RegistryList registries;
  SchedulerSettings settings;
  /// One that knows nothing yet: for the start, and for every lead.
  std::function<std::unique_ptr<SchedulerCore>()> make_core;
  SchedulerMetrics metrics;
  telemetry::Logger log;
  std::function<Time()> now;
};

class SchedulerState {
 public:
  static constexpr const char* kName = "conclave.scheduler";
  /// A change that people made is answered when the registry keeps it, or so much later.
  static constexpr std::chrono::seconds kKeepPatience{2};
  /// Such changes at once: people and their scripts make few.
  static constexpr std::size_t kUnkeptMax = 64;

  SchedulerState(SchedulerActor::pointer self, std::shared_ptr<SchedulerParts> parts)
      : self_(self),
        parts_(std::move(*parts)),
        leads_(!parts_.settings.elect),
        book_(parts_.settings.model) {
    begin();
  }

  SchedulerActor::behavior_type make_behavior();

 private:
  // A change that is made and answered when it is kept.
  struct Unkept {
    std::uint64_t change = 0;
    Time deadline;
    wire::AdminReply reply;
    caf::typed_response_promise<wire::AdminReply> promise;
  };

  void begin();
  void on_lead(const LeadChange& change);
  void on_leased(const Leased& leased);
  void answer_kept(std::uint64_t change);
  void answer_late(Time now);
  [[nodiscard]] KeptAnswer kept(const KeptQuestion& question) const;
  [[nodiscard]] caf::result<wire::Fleet> fleet() const;
  caf::result<wire::AdminReply> on_admin(const wire::AdminRequest& request);
  [[nodiscard]] base::Error stands_by() const;
  caf::result<wire::ReportReply> on_report(const wire::NodeReport& report);
  void on_tick();
  void on_catalog_changed();
  // Of the registry: deployments, then each version that is wanted, one after the other.
  void resolve();
  void ask_next();
  void resolved(const wire::ModelRecord& record);
  void add(const wire::ModelRecord& record, std::shared_ptr<const wire::ModelDigests> digests);
  void resolved_all();
  void unresolved(const std::string& reason);
  /// A registry could not be asked: the next one is, at once, unless all were.
  void unanswered(fabric::LinkId registry, const base::Error& error);
  [[nodiscard]] fabric::CatalogActor registry() const;
  void send_nudges();
  void send_events();

  SchedulerActor::pointer self_;
  SchedulerParts parts_;
  bool leads_;
  std::uint64_t term_ = 0;     // of who leads; 0: nobody is elected
  std::string leader_;         // its address, if it is another one and known
  Time leased_until_{};        // of its own lease
  LeadActor lead_;             // null: it has not said anything yet
  std::deque<Unkept> unkept_;  // by change
  std::unique_ptr<SchedulerCore> core_;
  std::optional<FleetAdmin> admin_;  // of the core
  Time resolve_at_{};
  Time show_models_at_{};
  bool resolving_ = false;
  bool resolve_again_ = false;  // the catalog changed meanwhile
  std::size_t unanswered_ = 0;  // registries in a row that did not answer
  WantedBook book_;
  std::deque<std::string> questions_;
  std::vector<WantedModel> answers_;
  std::vector<WantedModel> told_;  // the core
  std::string last_problem_;       // with the registry: said once, not every two seconds
  Time problem_since_{};           // if there is one
  bool problem_lasts_ = false;
};

}  // namespace conclave::scheduler
