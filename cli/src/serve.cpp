// `conclave serve`: all five services in one process, over direct links and calls. The
// services are those of `conclave up`; only addresses, threads and memory are shared.
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>

#include "admin_key.hpp"
#include "commands.hpp"
#include "conclave/app/process.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/engine/compute_host.hpp"
#include "conclave/expert_worker/expert_worker_service.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/gateway/gateway_service.hpp"
#include "conclave/registry/registry_service.hpp"
#include "conclave/router/router_service.hpp"
#include "conclave/scheduler/scheduler_service.hpp"
#include "ports.hpp"
#include "served_model.hpp"
#include "state_directory.hpp"

namespace conclave::cli {
namespace {

using base::Result;
using base::Status;

constexpr const char* kRegistry = "direct://registry";
constexpr const char* kScheduler = "direct://scheduler";
// How often the announcer looks whether requests would be answered.
constexpr std::chrono::milliseconds kLook{20};

struct Options {
  std::string model;
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  std::uint32_t threads = 0;
  std::string isa;
  app::ProcessSettings process;
  engine::BatcherOptions batch;
  artifacts::Settings artifacts;
  bool verify = false;
};

// What the services share; made first and gone last.
class Foundation {
 public:
  static constexpr std::string_view kName = "foundation";
  static constexpr std::string_view kDescription = "What the services of one process share";
  struct Settings {
    const Options& options;
    Foundation*& made;
  };

  static Result<std::unique_ptr<Foundation>> create(const Settings& settings,
                                                    app::ServiceContext& context) {
    auto foundation = std::make_unique<Foundation>();
    CONCLAVE_TRY(foundation->process, fleet::Process::create("", wire::NodeRole::kOperator,
                                                             context.log, context.metrics));
    CONCLAVE_TRY(foundation->compute,
                 engine::ComputeHost::create(settings.options.threads, settings.options.isa));
    settings.made = foundation.get();
    return foundation;
  }
  Status start() { return {}; }
  [[nodiscard]] Status ready() const { return {}; }
  void drain(std::chrono::steady_clock::time_point) {}
  void stop() {
    process.reset();
    compute.reset();
  }

  std::unique_ptr<fleet::Process> process;
  std::unique_ptr<engine::ComputeHost> compute;
};

// Says once when requests are answered.
class Announcer {
 public:
  static constexpr std::string_view kName = "announcer";
  static constexpr std::string_view kDescription = "Says when the model is served";
  struct Settings {
    std::function<Status()> served;
    std::function<std::string()> url;
  };

  static Result<std::unique_ptr<Announcer>> create(const Settings& settings, app::ServiceContext&) {
    return std::make_unique<Announcer>(settings);
  }
  explicit Announcer(const Settings& settings) : settings_(settings) {}
  ~Announcer() { stop(); }

  Status start() {
    thread_ = std::thread([this] { watch(); });
    return {};
  }
  [[nodiscard]] Status ready() const { return {}; }
  void drain(std::chrono::steady_clock::time_point) {}
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    stopped_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void watch() {
    std::unique_lock lock(mutex_);
    while (!settings_.served()) {
      if (stopped_.wait_for(lock, kLook, [this] { return stop_; })) return;
    }
    std::cout << "ready: " << settings_.url() << " (one process). Ctrl-C ends.\n" << std::flush;
  }

  Settings settings_;
  std::thread thread_;
  std::mutex mutex_;  // guards stop_
  std::condition_variable stopped_;
  bool stop_ = false;
};

template <class Service>
app::ServiceRecipe recipe(
    std::function<Result<std::unique_ptr<Service>>(app::ServiceContext& context)> create) {
  const std::string name(Service::kName);
  return {name,
          "",
          {},
          [name, create](app::ServiceContext& context) -> Result<std::unique_ptr<app::AnyService>> {
            context.node_name = name;
            CONCLAVE_TRY(auto service, create(context));
            return app::as_any(std::move(service));
          }};
}

class Serve {
 public:
  explicit Serve(const Options& options) : options_(options) {}

  Status run() {
    CONCLAVE_TRY(reference_, check_served(options_.model, options_.artifacts, options_.batch, 1));
    if (options_.port != 0) CONCLAVE_TRY_VOID(check_port(options_.host, options_.port));
    const std::vector<app::ServiceRecipe> recipes = this->recipes();
    const int code = app::run_process("serve", options_.process, recipes);
    if (code == app::kExitOk) return {};
    return base::fail(base::ErrorCode::kUnavailable, "the services did not run; see above");
  }

 private:
  std::vector<app::ServiceRecipe> recipes() {
    std::vector<app::ServiceRecipe> all;
    all.push_back(recipe<Foundation>([this](app::ServiceContext& context) {
      return Foundation::create({options_, foundation_}, context);
    }));
    all.push_back(recipe<registry::RegistryService>(
        [this](app::ServiceContext& context) -> Result<std::unique_ptr<registry::RegistryService>> {
          registry::RegistryService::Settings settings;
          settings.registry.listen = kRegistry;
          settings.registry.database = ":memory:";
          CONCLAVE_TRY(const auto key, ensure_admin_key(state_directory("")));
          settings.registry.admin_key_file = key.string();
          settings.registry.sums = (state_directory("") / "sums").string();
          settings.registry.verify = options_.verify;
          settings.registry.models = {absolute_model(options_.model)};
          settings.artifacts = options_.artifacts;
          return registry::RegistryService::create(settings, context, {foundation_->process.get()});
        }));
    all.push_back(recipe<scheduler::SchedulerService>([this](app::ServiceContext& context) {
      scheduler::SchedulerService::Settings settings;
      settings.scheduler.listen = kScheduler;
      settings.scheduler.registry = {kRegistry};
      settings.scheduler.model = reference_;
      // One worker, here already: nobody else will report.
      settings.scheduler.settle = std::chrono::milliseconds(0);
      return scheduler::SchedulerService::create(settings, context, {foundation_->process.get()});
    }));
    all.push_back(recipe<expert_worker::ExpertWorkerService>([this](app::ServiceContext& context) {
      expert_worker::ExpertWorkerService::Settings settings;
      settings.worker.listen = "direct://worker";
      settings.artifacts = options_.artifacts;
      settings.fleet.scheduler = {kScheduler};
      return expert_worker::ExpertWorkerService::create(
          settings, context, {foundation_->process.get(), foundation_->compute.get()});
    }));
    all.push_back(recipe<router::RouterService>([this](app::ServiceContext& context) {
      router::RouterService::Settings settings;
      settings.router.listen = "direct://router";
      settings.artifacts = options_.artifacts;
      settings.fleet.scheduler = {kScheduler};
      settings.batch = options_.batch;
      return router::RouterService::create(
          settings, context, {foundation_->process.get(), foundation_->compute.get()});
    }));
    all.push_back(recipe<gateway::GatewayService>(
        [this](app::ServiceContext& context) { return make_gateway(context); }));
    all.push_back(recipe<Announcer>([this](app::ServiceContext& context) {
      return Announcer::create({[this] { return gateway_->ready(); }, [this] { return url(); }},
                               context);
    }));
    return all;
  }

  Result<std::unique_ptr<gateway::GatewayService>> make_gateway(app::ServiceContext& context) {
    gateway::GatewayService::Settings settings;
    settings.gateway.host = options_.host;
    settings.gateway.port = options_.port;
    settings.gateway.registry = {kRegistry};
    settings.fleet.scheduler = {kScheduler};
    CONCLAVE_TRY(auto service,
                 gateway::GatewayService::create(settings, context, {foundation_->process.get()}));
    gateway_ = service.get();
    return service;
  }

  [[nodiscard]] std::string url() const {
    return "http://" + url_host(options_.host) + ":" + std::to_string(gateway_->port());
  }

  const Options& options_;
  std::string reference_;
  Foundation* foundation_ = nullptr;            // owned by the process that runs the services
  gateway::GatewayService* gateway_ = nullptr;  // likewise
};

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  options->process.log.level = telemetry::Level::kWarn;
  options->process.admin.port = 0;
  CLI::App* command =
      app.add_subcommand("serve", "Serve a model from this process alone, over the OpenAI API");
  command
      ->add_option("model,-m,--model", options->model,
                   "The GGUF file to serve, or its http(s):// or s3:// address")
      ->required()
      ->envname("CONCLAVE_MODEL");
  command->add_option("--host", options->host, "Address of the HTTP API")
      ->check(address_problem)
      ->capture_default_str();
  command->add_option("--port", options->port, "Port of the HTTP API (0: a free one)")
      ->check(config::within(0u, 65'535u))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "Compute threads (0: one for each processor)")
      ->check(config::within(0u, 1024u))
      ->capture_default_str()
      ->envname("CONCLAVE_THREADS");
  command->add_option("--isa", options->isa, "Instruction set: scalar, avx2, avx512 or amx")
      ->envname("CONCLAVE_ISA");
  command->add_flag("--verify", options->verify,
                    "Sum the whole file again, even if it has not changed since the last time");
  config::bind_section(*command, "batch", options->batch);
  config::bind_section(*command, "artifacts", options->artifacts);
  config::bind_section(*command, "log", options->process.log);
  config::bind_section(*command, "admin", options->process.admin);
  command->callback([options, &action] { action = [options] { return Serve(*options).run(); }; });
}

}  // namespace conclave::cli
