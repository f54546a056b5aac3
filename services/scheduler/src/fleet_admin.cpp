#include "fleet_admin.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <utility>

#include "conclave/base/text.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::scheduler {

using admin::json_reply;
using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

constexpr const char* kModel = "name:version, or a name; else the first that is served";

json::array names(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

json::object balance_json(const placement::Balance& balance) {
  return {{"mean", balance.mean},
          {"worst_layer", balance.worst},
          {"total", balance.total},
          {"after_worst_loss", balance.after_loss}};
}

json::object plan_json(const placement::PlanRequest& request, const placement::Plan& plan) {
  json::array workers;
  for (std::size_t i = 0; i < request.workers.size() && i < plan.targets.size(); ++i) {
    const std::uint64_t experts = plan.targets[i].count();
    workers.push_back({{"worker", request.workers[i].name},
                       {"experts", experts},
                       {"bytes", experts * request.shape.expert_bytes},
                       {"memory_bytes", request.workers[i].memory_bytes}});
  }
  return {{"model", request.shape.name},
          {"replica_floor", request.replicas},
          {"replicas", plan.replicas},
          {"moves", plan.moves},
          {"drops", plan.drops},
          {"bytes_moved", plan.bytes_moved},
          {"balance_before", balance_json(plan.before)},
          {"balance_after", balance_json(plan.after)},
          {"explanation", plan.explanation},
          {"reason", plan.reason},
          {"workers", std::move(workers)}};
}

json::object pin_json(const placement::Pin& pin) {
  const char* kind = pin.kind == placement::Pin::Kind::kOnly   ? "only"
                     : pin.kind == placement::Pin::Kind::kAlso ? "also"
                                                               : "never";
  return {{"layer", pin.layer},
          {"expert", pin.expert},
          {"kind", kind},
          {"group", pin.group},
          {"workers", names(pin.workers)}};
}

// Workers that read it and found other bytes than were registered.
json::array refusals_of(const wire::Fleet& fleet, const wire::ModelVersion& version,
                        std::uint32_t layer, std::uint32_t index) {
  json::array refusals;
  for (const wire::NodeStatus& node : fleet.nodes) {
    for (const wire::RefusedExpert& refused : node.report.refused) {
      if (refused.layer != layer || refused.index != index) continue;
      if (!wire::is_same_bytes(refused.model, version)) continue;
      refusals.push_back({{"worker", node.report.node}, {"reason", refused.reason}});
    }
  }
  return refusals;
}

Result<std::vector<std::string>> workers_member(const json::object& body) {
  std::vector<std::string> workers;
  const json::value* value = body.if_contains("workers");
  if (value == nullptr) return workers;
  if (!value->is_array() || value->get_array().size() > wire::kNodesMax) {
    return fail(ErrorCode::kInvalidArgument, "workers must be an array of names");
  }
  for (const json::value& worker : value->get_array()) {
    if (!worker.is_string() || worker.get_string().empty()) {
      return fail(ErrorCode::kInvalidArgument, "workers must be an array of names");
    }
    workers.emplace_back(worker.get_string());
  }
  return workers;
}

}  // namespace

wire::AdminReply said_not_kept(wire::AdminReply reply) {
  if (reply.status >= 300) return reply;
  boost::system::error_code failed;
  const json::value body = json::parse(reply.body, failed);
  json::object said = !failed && body.is_object() ? body.get_object() : json::object();
  said["kept"] = false;
  return json_reply(said);
}

FleetAdmin::FleetAdmin(SchedulerCore& core, std::function<Time()> now)
    : core_(core), now_(std::move(now)) {
  add_experts();
  add_workers();
  add_placement();
  add_rollback();
}

void FleetAdmin::add_experts() {
  const std::string one = "/admin/v1/experts/{layer}/{index}";
  routes_.add({"GET",
               "/admin/v1/experts",
               "Lists experts with their copies and how often they are asked for.",
               {{"by", "load: the hottest first; else by layer and index"},
                {"layer", "of this one only"},
                {"model", kModel},
                {"limit", "1 to 1000"},
                {"after", "`next` of the page before"}},
               {},
               [this](const Call& call) { return experts(call); }});
  routes_.add({"POST",
               one + ":pin",
               "Says which workers may, must or must not have an expert.",
               {{"model", kModel}},
               {{"kind", "only, also or never"},
                {"group", "device class of the workers"},
                {"workers", "their names"}},
               [this](const Call& call) { return pin(call); }});
  routes_.add({"POST",
               one + ":unpin",
               "Takes an expert's rule away.",
               {{"model", kModel}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const Expert expert, this->expert(call));
                 core_.pin(*expert.version, expert.layer, expert.index, std::nullopt, now_());
                 return admin::empty_reply();
               }});
  routes_.add({"POST",
               one + ":move",
               "Puts an expert's copies on these workers and on no others.",
               {{"model", kModel}},
               {{"workers", "their names"}},
               [this](const Call& call) { return move(call); }});
}

void FleetAdmin::add_workers() {
  routes_.add({"GET", "/admin/v1/workers", "Lists workers.", {}, {}, [this](const Call& call) {
                 return workers(call);
               }});
  const auto add = [this](const char* verb, const char* summary, SchedulerCore::Standing standing) {
    routes_.add({"POST",
                 std::string("/admin/v1/workers/{worker}") + verb,
                 summary,
                 {},
                 {},
                 [this, standing](const Call& call) { return stand(call, standing); }});
  };
  add(":cordon", "A worker keeps what it has and gets nothing new.",
      SchedulerCore::Standing::kCordoned);
  add(":uncordon", "A worker is in service again.", SchedulerCore::Standing::kInService);
  add(":drain", "What a worker has moves elsewhere.", SchedulerCore::Standing::kDraining);
}

void FleetAdmin::add_placement() {
  routes_.add({"GET",
               "/admin/v1/placement",
               "Shows how evenly the present placement shares the load.",
               {{"model", kModel}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const ServedVersion* version, this->version(call));
                 CONCLAVE_TRY(const auto preview, core_.preview(*version));
                 json::array pins;
                 for (const auto& [expert, pin] : version->pins) pins.push_back(pin_json(pin));
                 const Rollout& rollout = version->rollout;
                 return json_reply({{"model", version->version().name},
                                    {"version", version->version().version},
                                    {"epoch", rollout.table().epoch},
                                    {"experts", preview.first.shape.experts_total()},
                                    {"experts_ready", rollout.ready().count()},
                                    {"least_copies", rollout.least_copies()},
                                    {"balance", balance_json(preview.second.before)},
                                    {"pins", std::move(pins)}});
               }});
  routes_.add({"POST",
               "/admin/v1/placement:plan",
               "The plan that would be made now; changes nothing.",
               {{"model", kModel}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const ServedVersion* version, this->version(call));
                 CONCLAVE_TRY(const auto preview, core_.preview(*version));
                 return json_reply(plan_json(preview.first, preview.second));
               }});
  routes_.add({"POST",
               "/admin/v1/placement:apply",
               "Plans anew, now, and rolls that out.",
               {{"model", kModel}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const ServedVersion* version, this->version(call));
                 CONCLAVE_TRY(const auto preview, core_.preview(*version));
                 CONCLAVE_TRY(const placement::Plan plan, core_.apply(*version, now_()));
                 return json_reply(plan_json(preview.first, plan));
               }});
}

void FleetAdmin::add_rollback() {
  routes_.add({"POST",
               "/admin/v1/placement:rollback",
               "Back to the placement before the last plan, as far as its workers are there.",
               {{"model", kModel}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const ServedVersion* version, this->version(call));
                 CONCLAVE_TRY(const auto preview, core_.preview(*version));
                 CONCLAVE_TRY(const placement::Plan plan, core_.roll_back(*version, now_()));
                 return json_reply(plan_json(preview.first, plan));
               }});
}

FleetAdmin::Reply FleetAdmin::experts(const Call& call) const {
  CONCLAVE_TRY(const ServedVersion* version, this->version(call));
  const Rollout* rollout = &version->rollout;
  const auto& shape = rollout->model().shape;
  CONCLAVE_TRY(const std::uint32_t limit, call.limit());
  CONCLAVE_TRY(const std::uint64_t after, call.argument("after", 0, 0, UINT32_MAX));
  CONCLAVE_TRY(const std::uint64_t layer, call.argument("layer", UINT32_MAX, 0, UINT32_MAX));
  const std::string by = call.argument("by");
  if (!by.empty() && by != "load" && by != "layer") {
    return fail(ErrorCode::kInvalidArgument, "by must be load or layer");
  }
  const std::vector<double> loads = version->loads.loads();
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = shape.dense_layers * shape.experts; i < shape.layers * shape.experts;
       ++i) {
    if (layer == UINT32_MAX || i / shape.experts == layer) order.push_back(i);
  }
  if (by == "load")
    std::ranges::stable_sort(order, std::ranges::greater{}, [&](auto i) { return loads[i]; });
  const wire::Fleet fleet = core_.fleet(now_());
  json::array data;
  std::size_t at = after;
  for (; at < order.size() && data.size() < limit; ++at) {
    const std::uint32_t in_layer = order[at] / shape.experts;
    const std::uint32_t index = order[at] % shape.experts;
    const auto hosts = rollout->hosts_of(in_layer, index);
    data.push_back({{"layer", in_layer},
                    {"expert", index},
                    {"pairs_per_second", loads[order[at]]},
                    {"copies", hosts.size()},
                    {"workers", names(hosts)},
                    {"refused", refusals_of(fleet, version->version(), in_layer, index)}});
  }
  json::value next;
  if (at < order.size()) next = at;
  return json_reply({{"data", std::move(data)}, {"next", std::move(next)}});
}

FleetAdmin::Reply FleetAdmin::workers(const Call&) const {
  json::array data;
  for (const wire::NodeStatus& status : core_.fleet(now_()).nodes) {
    const wire::NodeReport& report = status.report;
    if (report.role != wire::NodeRole::kExpertWorker) continue;
    data.push_back({{"worker", report.node},
                    {"standing", name_of(core_.standing(report.node))},
                    {"device", report.device},
                    {"address", report.address},
                    {"experts_ready", report.experts_ready()},
                    {"experts_assigned", status.assigned},
                    {"memory_bytes", report.memory_bytes},
                    {"memory_used_bytes", report.memory_used_bytes},
                    {"pairs", report.load.pairs_total},
                    {"experts_refused", report.refused.size()},
                    {"silent_ms", status.silent_ms},
                    {"reason", report.reason}});
  }
  return json_reply({{"data", std::move(data)}, {"next", nullptr}});
}

FleetAdmin::Reply FleetAdmin::stand(const Call& call, SchedulerCore::Standing standing) const {
  CONCLAVE_TRY_VOID(call.body({}));
  CONCLAVE_TRY_VOID(core_.set_standing(call.text("worker"), standing, now_()));
  return json_reply({{"worker", call.text("worker")}, {"standing", name_of(standing)}});
}

Result<const ServedVersion*> FleetAdmin::version(const Call& call) const {
  const std::string reference = call.argument("model");
  const ServedVersion* version = core_.find(reference);
  if (version != nullptr) return version;
  if (reference.empty()) return fail(ErrorCode::kFailedPrecondition, "no model is served");
  return fail(ErrorCode::kNotFound, base::shown(reference) + " is not served");
}

Result<FleetAdmin::Expert> FleetAdmin::expert(const Call& call) const {
  CONCLAVE_TRY(const ServedVersion* version, this->version(call));
  CONCLAVE_TRY(const std::uint32_t layer, call.number("layer"));
  CONCLAVE_TRY(const std::uint32_t index, call.number("index"));
  const auto& shape = version->rollout.model().shape;
  if (layer < shape.dense_layers || layer >= shape.layers || index >= shape.experts) {
    return fail(ErrorCode::kNotFound, "there is no such expert");
  }
  return Expert{version, layer, index};
}

FleetAdmin::Reply FleetAdmin::pin(const Call& call) const {
  CONCLAVE_TRY(const Expert expert, this->expert(call));
  CONCLAVE_TRY(const json::object body, call.body({"kind", "group", "workers"}));
  placement::Pin pin;
  CONCLAVE_TRY(const auto kind, admin::text_member(body, "kind"));
  if (kind.value_or("only") == "also") {
    pin.kind = placement::Pin::Kind::kAlso;
  } else if (kind.value_or("only") == "never") {
    pin.kind = placement::Pin::Kind::kNever;
  } else if (kind.value_or("only") != "only") {
    return fail(ErrorCode::kInvalidArgument, "kind must be only, also or never");
  }
  CONCLAVE_TRY(const auto group, admin::text_member(body, "group"));
  pin.group = group.value_or("");
  CONCLAVE_TRY(pin.workers, workers_member(body));
  if (pin.group.empty() && pin.workers.empty()) {
    return fail(ErrorCode::kInvalidArgument, "a rule needs a group or workers");
  }
  core_.pin(*expert.version, expert.layer, expert.index, pin, now_());
  pin.layer = expert.layer;
  pin.expert = expert.index;
  return json_reply(pin_json(pin));
}

FleetAdmin::Reply FleetAdmin::move(const Call& call) const {
  CONCLAVE_TRY(const Expert expert, this->expert(call));
  CONCLAVE_TRY(const json::object body, call.body({"workers"}));
  CONCLAVE_TRY(const auto workers, workers_member(body));
  if (workers.empty()) return fail(ErrorCode::kInvalidArgument, "workers is missing");
  const wire::Fleet fleet = core_.fleet(now_());
  for (const std::string& worker : workers) {
    const bool is_there = std::ranges::any_of(fleet.nodes, [&](const wire::NodeStatus& node) {
      return node.report.node == worker && node.report.role == wire::NodeRole::kExpertWorker;
    });
    if (!is_there) {
      return fail(ErrorCode::kNotFound, "there is no worker " + base::shown(worker));
    }
  }
  placement::Pin pin;
  pin.kind = placement::Pin::Kind::kOnly;
  pin.workers = workers;
  core_.pin(*expert.version, expert.layer, expert.index, pin, now_());
  pin.layer = expert.layer;
  pin.expert = expert.index;
  return json_reply(pin_json(pin));
}

}  // namespace conclave::scheduler
