// `conclave up`: every service as a process of its own on this machine, over loopback TCP, kept
// running and ended in order. What compose does, without Docker.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>

#include "admin_key.hpp"
#include "commands.hpp"
#include "conclave/artifacts/location.hpp"
#include "conclave/base/text.hpp"
#include "conclave/catalog/open.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/devices/machine.hpp"
#include "conclave/fabric/keys.hpp"
#include "conclave/quota/redis.hpp"
#include "local_fleet.hpp"
#include "output.hpp"
#include "ports.hpp"
#include "private_postgres.hpp"
#include "ready_probe.hpp"
#include "served_model.hpp"
#include "state_directory.hpp"
#include "supervisor.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using base::Status;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// What a service needs after it has drained, to let go of threads and sockets.
constexpr milliseconds kAfterDrain{2'000};
// Reasons come and go quickly while everything starts; one that stays is worth a line.
constexpr milliseconds kReasonStays{2'000};

struct Options {
  LocalFleet fleet;
  std::string state;
  bool postgres = false;
  std::string postgres_url;  // empty: a server of its own
  std::uint32_t registries = 1;
  std::uint32_t schedulers = 1;
  std::uint32_t gateways = 1;
};

class Up {
 public:
  explicit Up(const Options& options) : fleet_(options.fleet), options_(options) {}

  Status run() {
    fleet_.state = fs::absolute(state_directory(options_.state));
    CONCLAVE_TRY(const auto batch, settings_of<engine::BatcherOptions>("router.batch"));
    CONCLAVE_TRY(auto artifacts, settings_of<artifacts::Settings>("artifacts"));
    if (artifacts.cache.empty()) artifacts.cache = artifacts_cache(fleet_).string();
    const auto check_model = [&]() -> Status {
      CONCLAVE_TRY(fleet_.reference, check_served(fleet_.model, artifacts, batch, fleet_.routers));
      return {};
    };
    // What cannot be served leaves no state behind; what is elsewhere is read through its cache.
    const bool is_elsewhere = artifacts::has_scheme(fleet_.model);
    if (!is_elsewhere) CONCLAVE_TRY_VOID(check_model());
    if (fleet_.port != 0) CONCLAVE_TRY_VOID(check_ports());
    CONCLAVE_TRY(const StateLock lock, StateLock::take(fleet_.state));
    if (is_elsewhere) CONCLAVE_TRY_VOID(check_model());
    CONCLAVE_TRY_VOID(prepare());
    CONCLAVE_TRY(const devices::Machine machine, devices::discover());
    const Status status = supervise(processes_of(fleet_, machine));
    remove_addresses(fleet_.state);
    return status;
  }

 private:
  // Further gateways listen at the ports that follow.
  Status check_ports() {
    if (fleet_.port + options_.gateways - 1 > 65'535) {
      return fail(ErrorCode::kInvalidArgument, "--port leaves no ports for --gateways");
    }
    for (std::uint32_t i = 0; i < options_.gateways; ++i) {
      const auto port = static_cast<std::uint16_t>(fleet_.port + i);
      CONCLAVE_TRY_VOID(check_port(fleet_.host, port));
      if (i > 0) fleet_.more_ports.push_back(port);
    }
    return {};
  }

  Status prepare() {
    std::error_code error;
    fleet_.programs = fs::read_symlink("/proc/self/exe", error).parent_path();
    if (error) return fail(ErrorCode::kUnavailable, "/proc/self/exe: " + error.message());
    fleet_.model = absolute_model(fleet_.model);
    fleet_.keys = (fleet_.state / "keys").string();
    CONCLAVE_TRY(const auto written, fabric::write_keys(fleet_.keys));
    CONCLAVE_TRY(fleet_.admin_key, ensure_admin_key(fleet_.state));
    CONCLAVE_TRY_VOID(prepare_database());
    CONCLAVE_TRY(const auto ports,
                 free_ports(options_.gateways + options_.registries + options_.schedulers));
    const auto registries = ports.begin() + options_.gateways;
    const auto schedulers = registries + options_.registries;
    if (fleet_.port == 0) {
      fleet_.port = ports[0];
      fleet_.more_ports.assign(ports.begin() + 1, registries);
    }
    fleet_.registry_ports.assign(registries, schedulers);
    fleet_.scheduler_ports.assign(schedulers, ports.end());
    url_ = url_of(fleet_.port);
    return write_addresses(fleet_.state, {url_, scheduler_addresses(fleet_), fleet_.keys});
  }

  [[nodiscard]] std::string url_of(std::uint16_t port) const {
    return "http://" + url_host(fleet_.host) + ":" + std::to_string(port);
  }

  Status prepare_database() {
    fleet_.database = (fleet_.state / "registry.db").string();
    if (!options_.postgres) return {};
    fleet_.database = options_.postgres_url;
    if (!fleet_.database.empty()) return {};
    CONCLAVE_TRY(PrivatePostgres own, prepare_postgres(fleet_.state));
    fleet_.database = own.url;
    fleet_.postgres = std::move(own.server);
    return {};
  }

  // Those of a section, as far as --set has them. What a service would not take it says itself.
  template <class Settings>
  [[nodiscard]] base::Result<Settings> settings_of(std::string_view section) const {
    Settings settings;
    std::vector<std::string> arguments;
    for (const std::string& setting : fleet_.settings) {
      if (setting.starts_with(std::string(section) + ".")) arguments.push_back("--" + setting);
    }
    CLI::App app;
    config::bind_section(app, section, settings);
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError& error) {
      return fail(ErrorCode::kInvalidArgument, std::string("--set: ") + error.what());
    }
    return settings;
  }

  Status supervise(std::vector<ChildSpec> children) {
    // A pipe or terminal that goes away is no reason to end the services.
    ::signal(SIGPIPE, SIG_IGN);
    for (const ChildSpec& child : children) {
      name_width_ = std::max(name_width_, static_cast<int>(child.name.size()));
    }
    std::cerr << "conclave: starting " << children.size() << " services; keys and database in "
              << fleet_.state.string() << "\n";
    Supervisor supervisor(
        std::move(children),
        {[this](const std::string& name, std::string_view line) { print_line(name, line); },
         [](const std::string& name, const std::string& how, milliseconds pause) {
           std::cerr << "conclave: " << name << " ended with " << how << "; starting it again in "
                     << pause.count() << " ms\n";
         },
         [this] {
           std::cerr << "conclave: ending the services; Ctrl-C again kills them\n";
           probe_->stop();
         },
         [this, &supervisor] {
           if (look(*probe_)) supervisor.settle();
         }});
    started_ = Clock::now();
    // After the supervisor: its threads must not take the signals.
    probe_.emplace(url_ + "/ready");
    return supervisor.run(milliseconds(fleet_.drain_ms) + kAfterDrain);
  }

  void print_line(const std::string& name, std::string_view line) const {
    // What it says to registries that came before it was ready: they try again.
    if (name == "postgres" && line.ends_with("the database system is starting up")) return;
    std::cerr << std::left << std::setw(name_width_) << name << " | " << line << "\n";
  }

  // Says once when requests are answered, and again when that changes. True when it is so.
  bool look(ReadyProbe& probe) {
    const Clock::time_point now = Clock::now();
    if (auto state = probe.changed()) {
      if (state->ready && !state_.ready) print_ready(now);
      if (!state->ready && state_.ready) print_waiting("not ready", state->reason);
      state_ = *std::move(state);
      changed_ = now;
      reason_told_ = false;
    }
    if (!state_.ready && !reason_told_ && now - changed_ >= kReasonStays &&
        !state_.reason.empty()) {
      reason_told_ = true;
      print_waiting("waiting", state_.reason);
    }
    return state_.ready;
  }

  void print_ready(Clock::time_point now) const {
    const auto count = [](std::uint32_t number, const std::string& what) {
      return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
    };
    std::cout << "ready: " << url_ << " (" << count(fleet_.workers, "worker") << ", "
              << count(fleet_.routers, "router") << ", "
              << fixed(std::chrono::duration<double>(now - started_).count(), 1)
              << " s). Ctrl-C ends.\n";
    for (const std::uint16_t port : fleet_.more_ports)
      std::cout << "also: " << url_of(port) << "\n";
    std::cout << std::flush;
  }

  static void print_waiting(const char* what, const std::string& reason) {
    std::cout << what << (reason.empty() ? "" : ": " + base::printable(reason)) << "\n"
              << std::flush;
  }

  LocalFleet fleet_;
  const Options& options_;
  std::string url_;
  int name_width_ = 0;
  std::optional<ReadyProbe> probe_;
  Clock::time_point started_{};
  // Of the readiness that was last heard of.
  ReadyProbe::State state_;
  Clock::time_point changed_{};
  bool reason_told_ = false;
};

// For CLI11's check().
std::string redis_problem(const std::string& url) {
  const auto address = quota::parse_redis_url(url);
  return address ? "" : address.error().message;
}

// For CLI11's check().
std::string postgres_problem(const std::string& url) {
  if (url.empty() || catalog::is_postgres_url(url)) return "";
  return "'" + url +
         "' is no postgresql:// address (write --postgres last, or -m before the model)";
}

}  // namespace

void add_up(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  LocalFleet& fleet = options->fleet;
  CLI::App* command =
      app.add_subcommand("up", "Run all services on this machine, each as its own process");
  command
      ->add_option("model,-m,--model", fleet.model,
                   "The GGUF file to serve, or its http(s):// or s3:// address")
      ->required()
      ->envname("CONCLAVE_MODEL");
  command->add_option("--workers", fleet.workers, "Expert workers")
      ->check(config::within(1u, 64u))
      ->capture_default_str();
  command->add_option("--routers", fleet.routers, "Routers")
      ->check(config::within(1u, 16u))
      ->capture_default_str();
  command->add_option("--host", fleet.host, "Address of the HTTP API")
      ->check(address_problem)
      ->capture_default_str();
  command->add_option("--port", fleet.port, "Port of the HTTP API (0: a free one)")
      ->check(config::within(0u, 65'535u))
      ->capture_default_str();
  command->add_option("--state", options->state,
                      "Directory for keys and the registry (default: in the user's state)");
  command->add_option("--log-level", fleet.log_level, "Least severe level of the services' logs")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  command->add_option("--drain-ms", fleet.drain_ms, "Longest wait for requests at the end")
      ->check(config::within(0u, 3'600'000u))
      ->capture_default_str();
  command
      ->add_option("--data-encryption", fleet.data_encryption,
                   "Of calls to experts: curve, or none (they only prove who they are)")
      ->check(CLI::IsMember({"curve", "none"}))
      ->capture_default_str();
  command
      ->add_option("--set", fleet.settings,
                   "A setting of the services, as router.batch.sequences-max=32")
      ->allow_extra_args(false)  // what follows its value is the model
      ->check(setting_problem);
  CLI::Option* postgres =
      command
          ->add_option(
              "--postgres", options->postgres_url,
              "Keep the registry in PostgreSQL: at this URL, or without one in a server of "
              "its own, in the state directory")
          ->expected(0, 1)
          ->check(postgres_problem)
          ->envname("CONCLAVE_POSTGRES");
  command->add_option("--registries", options->registries, "Registries, on one database")
      ->check(config::within(1u, 8u))
      ->capture_default_str();
  command->add_option("--schedulers", options->schedulers, "Schedulers, of which one leads")
      ->check(config::within(1u, 8u))
      ->capture_default_str();
  command
      ->add_option("--gateways", options->gateways,
                   "Gateways, at --port and the ports that follow, or at free ones")
      ->check(config::within(1u, 16u))
      ->capture_default_str();
  command
      ->add_option("--redis", fleet.redis,
                   "redis://[:password@]host[:port][/db], where gateways count quotas together")
      ->check(redis_problem)
      ->envname("CONCLAVE_REDIS");
  command->callback([options, postgres, &action] {
    options->postgres = postgres->count() > 0;
    action = [options] { return Up(*options).run(); };
  });
}

}  // namespace conclave::cli
