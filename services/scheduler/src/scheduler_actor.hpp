// The scheduler as nodes reach it: reports in, replies and nudges out; asks the registry what is to
// be served. Decides nothing.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "fleet_admin.hpp"
#include "registry_list.hpp"
#include "scheduler_core.hpp"
#include "scheduler_metrics.hpp"
#include "wanted_book.hpp"

namespace conclave::scheduler {

using SchedulerActor =
    fabric::FleetActor::extend<caf::replies_to<wire::AdminRequest>::with<wire::AdminReply>,
                               caf::reacts_to<wire::CatalogChanged>, caf::reacts_to<caf::tick_atom>,
                               caf::reacts_to<caf::connect_atom>>;

struct SchedulerParts {
  fabric::Node& node;
  RegistryList registries;
  SchedulerSettings settings;
  std::unique_ptr<SchedulerCore> core;
  SchedulerMetrics metrics;
  telemetry::Logger log;
  std::function<Time()> now;
};

class SchedulerState {
 public:
  static constexpr const char* kName = "conclave.scheduler";

  SchedulerState(SchedulerActor::pointer self, std::shared_ptr<SchedulerParts> parts)
      : self_(self),
        parts_(std::move(*parts)),
        admin_(*parts_.core, parts_.now),
        book_(parts_.settings.model) {}

  SchedulerActor::behavior_type make_behavior();

 private:
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
  FleetAdmin admin_;
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
