// `conclave status`: what the scheduler knows of the fleet.
#include <caf/all.hpp>
#include <caf/scoped_actor.hpp>
#include <chrono>
#include <future>
#include <iostream>
#include <memory>
#include <sstream>

#include "commands.hpp"
#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fleet/process.hpp"
#include "output.hpp"
#include "state_directory.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

struct Options {
  std::string state;
  std::string scheduler;
  std::string keys;
  OutputFormat format = OutputFormat::kTable;
};

constexpr std::chrono::seconds kPatience{5};

const char* state_name(wire::NodeState state) {
  switch (state) {
    case wire::NodeState::kStarting:
      return "starting";
    case wire::NodeState::kReady:
      return "ready";
    case wire::NodeState::kDraining:
      return "draining";
  }
  return "unknown";
}

base::Result<wire::Fleet> ask(const std::string& scheduler, const std::string& keys) {
  telemetry::Metrics metrics;
  CONCLAVE_TRY(const auto process,
               fleet::Process::create(keys, wire::NodeRole::kOperator, {}, metrics));
  const fabric::NodeIdentity identity{"operator-" + std::to_string(::getpid()),
                                      wire::NodeRole::kOperator,
                                      fleet::incarnation_at(std::chrono::system_clock::now())};
  CONCLAVE_TRY(const auto node,
               fabric::Node::create(process->context(), process->system(), identity, {}));
  CONCLAVE_TRY(const fabric::LinkId link, node->connect(scheduler, wire::NodeRole::kScheduler));
  auto up = std::make_shared<std::promise<void>>();
  node->on_link(
      [link, up, once = std::make_shared<std::once_flag>()](const fabric::LinkEvent& event) {
        if (event.link == link && event.up) std::call_once(*once, [&] { up->set_value(); });
      });
  if (up->get_future().wait_for(kPatience) != std::future_status::ready) {
    return fail(ErrorCode::kUnavailable, "no scheduler answers at " + scheduler);
  }
  base::Result<wire::Fleet> fleet = fail(ErrorCode::kInternal, "no answer");
  {
    caf::scoped_actor self(process->system());
    self->request(node->remote<fabric::FleetActor>(link, fabric::kFleetActor), kPatience,
                  wire::FleetRequest{})
        .receive([&](wire::Fleet& answer) { fleet = std::move(answer); },
                 [&](const caf::error& error) { fleet = fail(fabric::from_caf(error)); });
  }
  node->stop(std::chrono::milliseconds(100));
  return fleet;
}

// Of several schedulers the one that leads knows the fleet; the others know that one. With the
// leader's address.
base::Result<wire::Fleet> ask_leader(const std::string& schedulers, const std::string& keys) {
  base::Result<wire::Fleet> fleet =
      fail(ErrorCode::kInvalidArgument, "there is no address of a scheduler");
  std::stringstream list(schedulers);
  for (std::string address; std::getline(list, address, ',');) {
    fleet = ask(address, keys);
    if (fleet && !fleet->leader.empty()) {
      address = fleet->leader;
      fleet = ask(address, keys);
    }
    if (!fleet || !fleet->leader.empty()) continue;
    fleet->leader = address;
    break;
  }
  return fleet;
}

json::array refused_json(const wire::NodeReport& report) {
  json::array all;
  for (const wire::RefusedExpert& refused : report.refused) {
    json::object shown{{"model", refused.model.name},
                       {"version", refused.model.version},
                       {"reason", refused.reason}};
    if (refused.layer != wire::RefusedExpert::kBackbone) {
      shown["layer"] = refused.layer;
      shown["expert"] = refused.index;
    }
    all.push_back(std::move(shown));
  }
  return all;
}

json::object node_json(const wire::NodeStatus& status) {
  const wire::NodeReport& report = status.report;
  json::object node{{"node", report.node},
                    {"role", std::string(to_string(report.role))},
                    {"state", state_name(report.state)},
                    {"reason", report.reason},
                    {"address", report.address},
                    {"admin", report.admin_address},
                    {"zone", report.zone},
                    {"silent_ms", status.silent_ms},
                    {"epoch_seen", report.epoch_seen}};
  if (!report.refused.empty()) node["refused"] = refused_json(report);
  if (report.role == wire::NodeRole::kExpertWorker) {
    node["device"] = report.device;
    node["experts_ready"] = report.experts_ready();
    node["experts_assigned"] = status.assigned;
    node["memory_bytes"] = report.memory_bytes;
    node["memory_used_bytes"] = report.memory_used_bytes;
    node["pairs"] = report.load.pairs_total;
  }
  if (report.role == wire::NodeRole::kRouter) {
    node["running"] = report.load.running;
    node["waiting"] = report.load.waiting;
    node["tokens"] = report.load.tokens_total;
    node["kv_tokens_used"] = report.load.kv_tokens_used;
    node["kv_tokens_max"] = report.load.kv_tokens_max;
  }
  return node;
}

json::object model_json(const wire::ServedModel& model) {
  return {{"model", model.model.name},
          {"version", model.model.version},
          {"experts_ready", model.experts_ready},
          {"experts_total", model.experts_total},
          {"complete", model.complete},
          {"leaving", model.leaving},
          {"reason", model.reason}};
}

// Of the first version what there was before there were several.
json::object fleet_json(const wire::Fleet& fleet) {
  json::array nodes;
  for (const wire::NodeStatus& status : fleet.nodes) nodes.push_back(node_json(status));
  json::array models;
  for (const wire::ServedModel& model : fleet.models) models.push_back(model_json(model));
  const wire::ServedModel first = fleet.models.empty() ? wire::ServedModel{} : fleet.models.front();
  return {{"epoch", fleet.epoch},
          {"term", fleet.term},
          {"leader", fleet.leader},
          {"model", first.model.name},
          {"version", first.model.version},
          {"experts_ready", first.experts_ready},
          {"experts_total", first.experts_total},
          {"complete", fleet.complete()},
          {"models", std::move(models)},
          {"reason", fleet.reason},
          {"nodes", std::move(nodes)}};
}

std::string load_of(const wire::NodeStatus& status) {
  const wire::NodeReport& report = status.report;
  switch (report.role) {
    case wire::NodeRole::kExpertWorker:
      return std::to_string(report.load.pairs_total) + " pairs";
    case wire::NodeRole::kRouter:
      return std::to_string(report.load.running) + " running, " +
             std::to_string(report.load.waiting) + " waiting";
    case wire::NodeRole::kGateway:
      return std::to_string(report.load.running) + " requests";
    default:
      return "";
  }
}

// What does not have the bytes that were registered, a line each.
void print_refused(const wire::Fleet& fleet) {
  for (const wire::NodeStatus& status : fleet.nodes) {
    for (const wire::RefusedExpert& refused : status.report.refused) {
      const bool is_backbone = refused.layer == wire::RefusedExpert::kBackbone;
      std::cout << "refused  "
                << (is_backbone ? "backbone"
                                : "expert (" + std::to_string(refused.layer) + ", " +
                                      std::to_string(refused.index) + ")")
                << " of " << refused.model.name << ":" << refused.model.version << " by "
                << status.report.node << ": " << refused.reason << "\n";
    }
  }
}

void print_table(const wire::Fleet& fleet) {
  if (fleet.models.empty()) std::cout << "model    none\n";
  for (const wire::ServedModel& model : fleet.models) {
    std::cout << "model    " << model.model.name << ":" << model.model.version
              << (model.leaving ? ", leaving" : "") << "\nexperts  " << model.experts_ready
              << " of " << model.experts_total << " ready"
              << (model.reason.empty() ? "" : ": " + model.reason) << "\n";
  }
  if (!fleet.reason.empty()) std::cout << "waiting  " << fleet.reason << "\n";
  print_refused(fleet);
  std::cout << "epoch    " << fleet.epoch;
  if (fleet.term != 0) std::cout << ", term " << fleet.term;
  std::cout << "\n\n";
  Table table({"node", "role", "state", "device", "experts", "memory", "load", "address", "admin"});
  for (const wire::NodeStatus& status : fleet.nodes) {
    const wire::NodeReport& report = status.report;
    const bool worker = report.role == wire::NodeRole::kExpertWorker;
    std::string state = state_name(report.state);
    if (!report.reason.empty()) state += ": " + report.reason;
    table.add({report.node, std::string(to_string(report.role)), state, report.device,
               worker
                   ? std::to_string(report.experts_ready()) + "/" + std::to_string(status.assigned)
                   : "",
               worker ? human_bytes(report.memory_used_bytes) : "", load_of(status), report.address,
               report.admin_address});
  }
  std::cout << table.to_string();
}

base::Status status(Options options) {
  if (options.scheduler.empty()) {
    CONCLAVE_TRY(const UpAddresses up, read_addresses(state_directory(options.state)));
    options.scheduler = up.scheduler;
    if (options.keys.empty()) options.keys = up.keys;
  }
  CONCLAVE_TRY(const wire::Fleet fleet, ask_leader(options.scheduler, options.keys));
  if (options.format == OutputFormat::kJson) {
    print_json(fleet_json(fleet));
  } else {
    print_table(fleet);
  }
  return {};
}

}  // namespace

void add_status(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("status", "Show the fleet as the scheduler knows it");
  command->add_option("--scheduler", options->scheduler,
                      "Its address (default: that of the `conclave up` of --state)");
  command->add_option("--keys", options->keys, "Directory of the fabric's keys")
      ->envname("CONCLAVE_FABRIC_KEYS");
  command->add_option("--state", options->state, "State directory of `conclave up`");
  add_output_option(*command, options->format);
  command->callback([options, &action] { action = [options] { return status(*options); }; });
}

}  // namespace conclave::cli
