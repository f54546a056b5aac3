#include "registry_actor.hpp"

#include <caf/all.hpp>
#include <utility>

#include "conclave/catalog/reference.hpp"
#include "conclave/fabric/caf_error.hpp"

namespace conclave::registry {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

std::int64_t unix_ms(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

RegistryMetrics::RegistryMetrics(telemetry::Metrics& metrics)
    : metrics_(metrics),
      stale_(
          metrics.counter("conclave_registry_stale_answers_total",
                          "Answers about models as they were last, while the database was away")) {}

void RegistryMetrics::answered(const char* request, const base::Status& outcome) {
  metrics_
      .counter("conclave_registry_requests_total", "Requests answered, by outcome",
               {{"request", request},
                {"outcome", outcome ? "ok" : std::string(to_string(outcome.error().code))}})
      .add();
}

void RegistryMetrics::answered_stale() { stale_.add(); }

template <class T>
caf::result<T> RegistryState::answer(const char* request, base::Result<T> outcome) {
  if (outcome) {
    parts_.metrics.answered(request, {});
    return std::move(*outcome);
  }
  parts_.metrics.answered(request, fail(outcome.error()));
  return fabric::to_caf(outcome.error());
}

RegistryActor::behavior_type RegistryState::make_behavior() {
  self_->set_default_handler(caf::drop);
  return {[this](const wire::RegisterModel& request) { return on_register(request); },
          [this](const wire::ResolveModel& request) {
            return answer("resolve", reader_.resolve(request));
          },
          [this](const wire::ListModels& request) { return answer("list", reader_.list(request)); },
          [this](const wire::SetAlias& request) { return on_set_alias(request); },
          [this](const wire::DigestsRequest& request) {
            return answer("digests", reader_.digests(request));
          },
          [this](const wire::DeploymentsRequest& request) {
            return answer("deployments", deployments_.deployments(request));
          },
          [this](const ScannedMessage& scanned) { on_scanned(*scanned); },
          [this](const LinkRole& link) { on_link(link); }};
}

void RegistryState::database_away(const base::Error& error) {
  parts_.metrics.answered_stale();
  parts_.log.debug("answered_from_snapshot", {{"error", error.to_string()}});
}

void RegistryState::on_link(const LinkRole& link) {
  if (link.is_up) {
    links_[link.link] = link.role;
  } else {
    links_.erase(link.link);
  }
}

Status RegistryState::check_operator() const {
  const fabric::LinkId link = fabric::link_of(self_->current_sender());
  if (link == 0) return {};
  const auto found = links_.find(link);
  if (found != links_.end() && found->second == wire::NodeRole::kOperator) return {};
  return fail(ErrorCode::kFailedPrecondition, "only operators change what is registered");
}

caf::result<wire::ModelRecord> RegistryState::on_set_alias(const wire::SetAlias& request) {
  const auto set = [&]() -> base::Result<wire::ModelRecord> {
    CONCLAVE_TRY_VOID(check_operator());
    CONCLAVE_TRY_VOID(
        parts_.catalog.move_alias({request.name, request.alias, request.version, {}}, change()));
    return parts_.catalog.resolve(catalog::format_reference(request.name, request.version));
  };
  auto record = set();
  if (record) {
    parts_.log.info(
        "alias_set",
        {{"model", request.name}, {"alias", request.alias}, {"version", request.version}});
  }
  return answer("set_alias", std::move(record));
}

caf::result<wire::ModelRecord> RegistryState::on_register(const wire::RegisterModel& request) {
  Status queued = check_operator();
  auto promise = self_->make_response_promise<wire::ModelRecord>();
  if (queued) queued = queue(request, {request, promise});
  if (!queued) {
    parts_.metrics.answered("register", queued);
    promise.deliver(fabric::to_caf(queued.error()));
  }
  return promise;
}

// What can be refused is refused before the file is read.
Status RegistryState::queue(const wire::RegisterModel& request, Pending pending) {
  CONCLAVE_TRY(const artifacts::Location where, artifacts::Location::parse(request.uri));
  if (!request.name.empty()) CONCLAVE_TRY_VOID(catalog::check_name("model name", request.name));
  for (const std::string& alias : request.aliases) {
    CONCLAVE_TRY_VOID(catalog::check_name("alias", alias));
  }
  const ScanKey key{where.text(), request.name};
  if (const auto found = pending_.find(key); found != pending_.end()) {
    if (found->second.size() >= kWaitingForFileMax) {
      return fail(ErrorCode::kOverloaded, "too many wait for this file already");
    }
    found->second.push_back(std::move(pending));
    return {};
  }
  const caf::actor self = caf::actor_cast<caf::actor>(self_);
  CONCLAVE_TRY_VOID(parts_.registrar.scan(
      {where, request.name, false, {}, [self, key](base::Result<catalog::ModelScan> scan) {
         caf::anon_send(self, std::make_shared<Scanned>(Scanned{key, std::move(scan)}));
       }}));
  pending_[key].push_back(std::move(pending));
  return {};
}

base::Result<wire::ModelRecord> RegistryState::add(const Scanned& scanned,
                                                   const wire::RegisterModel& request) {
  if (!scanned.scan) return fail(scanned.scan.error());
  // The location and not the URI as it was given: workers and routers open it.
  catalog::NewVersion version;
  version.uri = scanned.key.first;
  version.aliases = request.aliases;
  CONCLAVE_TRY(catalog::Version added,
               parts_.catalog.add_version(*scanned.scan, version, change()));
  return std::move(added.record);
}

// Who has an operator's keys is an operator: the link says no more.
catalog::Change RegistryState::change() const {
  return {"operator", "", unix_ms(parts_.wall_clock()), {}, false};
}

void RegistryState::on_scanned(Scanned& scanned) {
  const auto pending = pending_.extract(scanned.key);
  if (pending.empty()) return;
  for (Pending& waiting : pending.mapped()) {
    base::Result<wire::ModelRecord> record = add(scanned, waiting.request);
    if (record) {
      parts_.log.info("model_registered", {{"model", record->model.name},
                                           {"version", record->model.version},
                                           {"uri", record->model.uri},
                                           {"sha256", record->model.sha256},
                                           {"bytes", record->bytes}});
      parts_.metrics.answered("register", {});
      waiting.promise.deliver(std::move(*record));
    } else {
      parts_.log.warn("model_refused",
                      {{"path", scanned.key.first}, {"error", record.error().to_string()}});
      parts_.metrics.answered("register", fail(record.error()));
      waiting.promise.deliver(fabric::to_caf(record.error()));
    }
  }
}

}  // namespace conclave::registry
