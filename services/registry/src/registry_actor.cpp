#include "registry_actor.hpp"

#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"

namespace conclave::registry {

using base::fail;

namespace {

std::int64_t unix_ms(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

void RegistryMetrics::answered(const char* request, const base::Status& outcome) {
  metrics_
      .counter("conclave_registry_requests_total", "Requests answered, by outcome",
               {{"request", request},
                {"outcome", outcome ? "ok" : std::string(to_string(outcome.error().code))}})
      .add();
}

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
            return answer("resolve", parts_.catalog.resolve(request.reference));
          },
          [this](const wire::ListModels& request) {
            return answer("list", parts_.catalog.list(request));
          },
          [this](const wire::SetAlias& request) {
            parts_.log.info(
                "alias_set",
                {{"model", request.name}, {"alias", request.alias}, {"version", request.version}});
            return answer("set_alias", parts_.catalog.set_alias(request));
          },
          [this](const wire::DigestsRequest& request) {
            return answer("digests", parts_.catalog.digests(request));
          },
          [this](const ScannedMessage& scanned) { on_scanned(*scanned); }};
}

caf::result<wire::ModelRecord> RegistryState::on_register(const wire::RegisterModel& request) {
  const std::uint64_t number = next_++;
  const caf::actor self = caf::actor_cast<caf::actor>(self_);
  const base::Status queued =
      parts_.registrar.scan(request, [self, number](base::Result<catalog::ModelScan> scan) {
        caf::anon_send(self, std::make_shared<Scanned>(Scanned{number, std::move(scan)}));
      });
  if (!queued) return answer<wire::ModelRecord>("register", fail(queued.error()));
  auto promise = self_->make_response_promise<wire::ModelRecord>();
  pending_.emplace(number, Pending{request, promise});
  return promise;
}

void RegistryState::on_scanned(Scanned& scanned) {
  const auto pending = pending_.extract(scanned.number);
  if (pending.empty()) return;
  Pending& waiting = pending.mapped();
  const auto add = [&]() -> base::Result<wire::ModelRecord> {
    if (!scanned.scan) return fail(scanned.scan.error());
    return parts_.catalog.add(*scanned.scan, waiting.request.uri, waiting.request.aliases,
                              unix_ms(parts_.wall_clock()));
  };
  base::Result<wire::ModelRecord> record = add();
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
                    {{"uri", waiting.request.uri}, {"error", record.error().to_string()}});
    parts_.metrics.answered("register", fail(record.error()));
    waiting.promise.deliver(fabric::to_caf(record.error()));
  }
}

}  // namespace conclave::registry
