#include "local_fleet.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

namespace conclave::cli {

using Arguments = std::vector<std::string>;

namespace {

// In which order they end. Those that plan go before the workers: no expert is to be moved to a
// worker that ends next.
constexpr int kGatewayStage = 0;
constexpr int kRouterStage = 1;
constexpr int kPlannerStage = 2;
constexpr int kWorkerStage = 3;
constexpr int kDatabaseStage = 4;

// Which sections of settings a service has: its own, and these.
struct Service {
  std::string_view name;
  std::vector<std::string_view> shared;
};

const std::vector<Service>& services() {
  static const std::vector<Service> all = {
      {"registry", {"artifacts", "fabric", "tracing"}},
      {"scheduler", {"fabric", "tracing"}},
      {"expert-worker", {"artifacts", "fabric", "fabric.data", "fleet", "tracing"}},
      {"router", {"artifacts", "fabric", "fabric.data", "fleet", "tracing"}},
      {"gateway", {"fabric", "fleet", "tracing"}},
  };
  return all;
}

// "router.batch.sequences-max=32" -> "router", "fabric.data.encryption=none" -> "fabric.data".
std::string_view section_of(std::string_view setting) {
  constexpr std::string_view kData = "fabric.data.";
  if (setting.starts_with(kData)) return kData.substr(0, kData.size() - 1);
  return setting.substr(0, setting.find('.'));
}

bool has_section(const Service& service, std::string_view section) {
  return section == service.name || std::ranges::count(service.shared, section) > 0;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : ",") + text;
  return all;
}

std::string tcp(std::uint16_t port) { return "tcp://127.0.0.1:" + std::to_string(port); }

// Every worker gets its own share of the processors; more workers than processors share them.
std::string device_of(const std::vector<unsigned>& cpus, std::size_t worker, std::size_t workers) {
  if (workers > cpus.size()) return "cpu:" + std::to_string(cpus[worker % cpus.size()]);
  const std::size_t first = worker * cpus.size() / workers;
  const std::size_t end = (worker + 1) * cpus.size() / workers;
  const std::span<const unsigned> share = std::span(cpus).subspan(first, end - first);
  return "cpu:" + devices::CpuSet({share.begin(), share.end()}).to_string();
}

class Plan {
 public:
  explicit Plan(const LocalFleet& fleet) : fleet_(fleet) {}

  /// `environment`: what other users of the machine must not see, as they see command lines.
  void add(const std::string& name, const std::string& program, int stage, Arguments arguments,
           std::vector<std::string> environment = {}) {
    const auto service = std::ranges::find(services(), program, &Service::name);
    ChildSpec child{name, {(fleet_.programs / ("conclave-" + program)).string()}, stage};
    child.environment = std::move(environment);
    const Arguments common{"--node.name",
                           name,
                           "--node.drain-timeout-ms",
                           std::to_string(fleet_.drain_ms),
                           "--admin.port",  // any: `conclave status` shows it
                           "0",
                           "--log.level",
                           fleet_.log_level,
                           "--log.format",
                           "text",
                           "--fabric.keys",
                           fleet_.keys};
    if (has_section(*service, "artifacts")) {
      arguments.insert(arguments.end(), {"--artifacts.cache", artifacts_cache(fleet_).string()});
    }
    for (const Arguments* some : {&common, &std::as_const(arguments)}) {
      child.arguments.insert(child.arguments.end(), some->begin(), some->end());
    }
    for (const std::string& setting : fleet_.settings) {
      if (has_section(*service, section_of(setting))) child.arguments.push_back("--" + setting);
    }
    children_.push_back(std::move(child));
  }

  std::vector<ChildSpec> take() { return std::move(children_); }

 private:
  const LocalFleet& fleet_;
  std::vector<ChildSpec> children_;
};

}  // namespace

std::filesystem::path artifacts_cache(const LocalFleet& fleet) { return fleet.state / "artifacts"; }

std::string scheduler_addresses(const LocalFleet& fleet) {
  std::vector<std::string> addresses;
  for (const std::uint16_t port : fleet.scheduler_ports) addresses.push_back(tcp(port));
  return joined(addresses);
}

std::vector<ChildSpec> processes_of(const LocalFleet& fleet, const devices::Machine& machine) {
  std::vector<std::string> registries;
  for (const std::uint16_t port : fleet.registry_ports) registries.push_back(tcp(port));
  const std::string schedulers = scheduler_addresses(fleet);
  Plan plan(fleet);
  for (std::size_t i = 0; i < registries.size(); ++i) {
    const bool is_only = registries.size() == 1;
    Arguments arguments{"--registry.listen", registries[i],
                        "--registry.sums",   (fleet.state / "registry.db.sums").string(),
                        "--registry.models", fleet.model};
    if (!fleet.admin_key.empty()) {
      arguments.insert(arguments.end(), {"--registry.admin-key-file", fleet.admin_key.string()});
    }
    plan.add(is_only ? "registry" : "registry-" + std::to_string(i + 1), "registry", kPlannerStage,
             std::move(arguments), {"CONCLAVE_REGISTRY_DATABASE=" + fleet.database});
  }
  for (std::size_t i = 0; i < fleet.scheduler_ports.size(); ++i) {
    const bool is_only = fleet.scheduler_ports.size() == 1;
    plan.add(is_only ? "scheduler" : "scheduler-" + std::to_string(i + 1), "scheduler",
             kPlannerStage,
             {"--scheduler.listen", tcp(fleet.scheduler_ports[i]), "--scheduler.registry",
              joined(registries), "--scheduler.model", fleet.reference,
              std::string("--scheduler.elect=") + (is_only ? "false" : "true")});
  }
  const std::uint64_t memory = machine.memory_limit_bytes / 4 * 3 / fleet.workers;
  for (std::uint32_t i = 0; i < fleet.workers; ++i) {
    plan.add(
        "worker-" + std::to_string(i + 1), "expert-worker", kWorkerStage,
        {"--fleet.scheduler", schedulers, "--expert-worker.memory-bytes", std::to_string(memory),
         "--expert-worker.device", device_of(machine.cpus.cpus(), i, fleet.workers),
         "--fabric.data.encryption", fleet.data_encryption});
  }
  for (std::uint32_t i = 1; i <= fleet.routers; ++i) {
    plan.add("router-" + std::to_string(i), "router", kRouterStage,
             {"--fleet.scheduler", schedulers, "--fabric.data.encryption", fleet.data_encryption});
  }
  std::vector<std::uint16_t> ports{fleet.port};
  ports.insert(ports.end(), fleet.more_ports.begin(), fleet.more_ports.end());
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string number = i == 0 ? "" : "-" + std::to_string(i + 1);
    std::vector<std::string> environment;
    if (!fleet.redis.empty()) environment.push_back("CONCLAVE_GATEWAY_REDIS=" + fleet.redis);
    plan.add("gateway" + number, "gateway", kGatewayStage,
             {"--fleet.scheduler", schedulers, "--gateway.host", fleet.host, "--gateway.port",
              std::to_string(ports[i]), "--gateway.registry", joined(registries),
              "--gateway.usage-spool", (fleet.state / ("usage" + number + ".spool")).string()},
             std::move(environment));
  }
  std::vector<ChildSpec> children = plan.take();
  if (fleet.postgres) {
    children.insert(children.begin(), *fleet.postgres);
    children.front().stage = kDatabaseStage;
  }
  return children;
}

std::string setting_problem(const std::string& setting) {
  const std::string_view section = section_of(setting);
  const bool is_known = std::ranges::any_of(
      services(), [&](const Service& service) { return has_section(service, section); });
  const std::size_t equals = setting.find('=');
  if (is_known && equals != std::string::npos && setting.find('.') < equals) return "";
  return "'" + setting +
         "' is not SECTION.KEY=VALUE of registry, scheduler, expert-worker, router, gateway, "
         "artifacts, fleet, fabric or tracing";
}

}  // namespace conclave::cli
