// `conclave up`: every service as a process of its own on this machine, over loopback TCP, kept
// running and ended in order. What compose does, without Docker.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "commands.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/devices/machine.hpp"
#include "conclave/fabric/keys.hpp"
#include "conclave/http/client.hpp"
#include "output.hpp"
#include "served_model.hpp"
#include "state_directory.hpp"
#include "supervisor.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string model;
  std::string state;
  std::uint32_t workers = 2;
  std::uint32_t routers = 1;
  std::uint16_t port = 8000;
  std::string host = "127.0.0.1";
  std::string log_level = "warn";
  std::uint32_t drain_ms = 10'000;
  std::string data_encryption = "curve";
  std::vector<std::string> set;
};

// Ports that are free now. All sockets are open at once, so that no number comes twice; somebody
// else may still take one before the child does, which then falls and says so.
Result<std::vector<std::uint16_t>> free_ports(std::size_t count) {
  std::vector<int> sockets;
  std::vector<std::uint16_t> ports;
  Status status;
  for (std::size_t i = 0; i < count && status; ++i) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket >= 0) sockets.push_back(socket);
    if (socket < 0 || ::bind(socket, raw, size) != 0 || ::getsockname(socket, raw, &size) != 0) {
      status = fail(ErrorCode::kUnavailable, "the system has no free port");
    } else {
      ports.push_back(ntohs(address.sin_port));
    }
  }
  for (const int socket : sockets) ::close(socket);
  if (!status) return fail(status.error());
  return ports;
}

std::string tcp(std::uint16_t port) { return "tcp://127.0.0.1:" + std::to_string(port); }

class Up {
 public:
  explicit Up(const Options& options) : options_(options) {}

  Status run() {
    state_ = fs::absolute(state_directory(options_.state));
    CONCLAVE_TRY(const StateLock lock, StateLock::take(state_));
    CONCLAVE_TRY_VOID(prepare());
    Supervisor supervisor(
        children_,
        {[this](const std::string& name, std::string_view line) {
           std::cerr << name << " | " << line << "\n";
         },
         [this](const std::string& name, const std::string& how, std::chrono::milliseconds pause) {
           std::cerr << "conclave: " << name << " ended with " << how << "; starting it again in "
                     << pause.count() << " ms\n";
         },
         [this] { return tick(); }});
    started_ = Clock::now();
    Status status = supervisor.run(std::chrono::milliseconds(options_.drain_ms + 2'000));
    std::error_code ignored;
    fs::remove(state_ / "up.json", ignored);
    return status;
  }

 private:
  Status prepare() {
    CONCLAVE_TRY(const std::string reference, served_reference(options_.model));
    std::error_code error;
    bin_ = fs::read_symlink("/proc/self/exe", error).parent_path();
    if (error) return fail(ErrorCode::kUnavailable, "/proc/self/exe: " + error.message());
    keys_ = (state_ / "keys").string();
    CONCLAVE_TRY(const auto written, fabric::write_keys(keys_));
    const std::size_t nodes = 3 + options_.routers + options_.workers;
    CONCLAVE_TRY(auto ports, free_ports(2 * nodes + 1));
    const auto next = [&ports] {
      const std::uint16_t port = ports.back();
      ports.pop_back();
      return port;
    };
    const std::uint16_t registry = next();
    const std::uint16_t scheduler = next();
    port_ = options_.port != 0 ? options_.port : next();
    url_ = "http://" + (options_.host == "0.0.0.0" ? "127.0.0.1" : options_.host) + ":" +
           std::to_string(port_);

    add("registry", "registry", 3, next(),
        {"--registry.listen", tcp(registry), "--registry.database",
         (state_ / "registry.db").string()});
    append({"--registry.models", fs::absolute(options_.model).string()});
    add("scheduler", "scheduler", 3, next(),
        {"--scheduler.listen", tcp(scheduler), "--scheduler.registry", tcp(registry),
         "--scheduler.model", reference});
    CONCLAVE_TRY_VOID(add_workers(scheduler, next));
    for (std::uint32_t i = 1; i <= options_.routers; ++i) {
      add("router-" + std::to_string(i), "router", 1, next(),
          {"--fleet.scheduler", tcp(scheduler), "--fabric.data.encryption",
           options_.data_encryption});
    }
    add("gateway", "gateway", 0, next(),
        {"--fleet.scheduler", tcp(scheduler), "--gateway.host", options_.host, "--gateway.port",
         std::to_string(port_)});
    return write_addresses(state_, {url_, tcp(scheduler), keys_});
  }

  template <class NextPort>
  Status add_workers(std::uint16_t scheduler, const NextPort& next) {
    CONCLAVE_TRY(const devices::Machine machine, devices::discover());
    // Three quarters of the memory for experts, as one worker alone would take.
    const std::uint64_t memory = machine.memory_limit_bytes / 4 * 3 / options_.workers;
    for (std::uint32_t i = 0; i < options_.workers; ++i) {
      add("worker-" + std::to_string(i + 1), "expert-worker", 2, next(),
          {"--fleet.scheduler", tcp(scheduler), "--expert-worker.memory-bytes",
           std::to_string(memory), "--expert-worker.device", device_of(machine, i),
           "--fabric.data.encryption", options_.data_encryption});
    }
    return {};
  }

  // Every worker gets its own share of the processors, as if each were a machine of its own; more
  // workers than processors share them.
  [[nodiscard]] std::string device_of(const devices::Machine& machine, std::uint32_t worker) const {
    const std::vector<unsigned>& cpus = machine.cpus.cpus();
    if (options_.workers > cpus.size()) {
      return "cpu:" + std::to_string(cpus[worker % cpus.size()]);
    }
    const std::size_t first = worker * cpus.size() / options_.workers;
    const std::size_t last = (worker + std::size_t{1}) * cpus.size() / options_.workers;
    return "cpu:" +
           devices::CpuSet(std::vector<unsigned>(cpus.begin() + static_cast<std::ptrdiff_t>(first),
                                                 cpus.begin() + static_cast<std::ptrdiff_t>(last)))
               .to_string();
  }

  void add(const std::string& name, const std::string& service, int stage, std::uint16_t admin,
           std::vector<std::string> arguments) {
    ChildSpec child{name, {(bin_ / ("conclave-" + service)).string()}, stage};
    const std::vector<std::string> common{"--node.name",
                                          name,
                                          "--admin.port",
                                          std::to_string(admin),
                                          "--fabric.keys",
                                          keys_,
                                          "--log.level",
                                          options_.log_level,
                                          "--log.format",
                                          "text",
                                          "--node.drain-timeout-ms",
                                          std::to_string(options_.drain_ms)};
    child.arguments.insert(child.arguments.end(), common.begin(), common.end());
    child.arguments.insert(child.arguments.end(), arguments.begin(), arguments.end());
    for (const std::string& setting : options_.set) {
      if (setting.starts_with(service + ".") || setting.starts_with("fabric.")) {
        child.arguments.push_back("--" + setting);
      }
    }
    children_.push_back(std::move(child));
  }

  void append(const std::vector<std::string>& arguments) {
    auto& to = children_.back().arguments;
    to.insert(to.end(), arguments.begin(), arguments.end());
  }

  // Says once when requests would be answered, and again when that changes.
  bool tick() {
    const auto answer = http::fetch({.url = url_ + "/ready",
                                     .timeout = std::chrono::milliseconds(1'000),
                                     .connect_timeout = std::chrono::milliseconds(500)});
    const bool ready = answer && answer->status == 200;
    if (ready == ready_) return true;
    ready_ = ready;
    const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    if (ready) {
      std::cout << "ready: " << url_ << " (" << options_.workers
                << (options_.workers == 1 ? " worker, " : " workers, ") << options_.routers
                << (options_.routers == 1 ? " router, " : " routers, ") << fixed(seconds, 1)
                << " s). Ctrl-C ends.\n"
                << std::flush;
    } else {
      std::cout << "not ready: " << (answer ? answer->body : answer.error().message) << "\n"
                << std::flush;
    }
    return true;
  }

  const Options& options_;
  fs::path state_;
  fs::path bin_;
  std::string keys_;
  std::string url_;
  std::uint16_t port_ = 0;
  std::vector<ChildSpec> children_;
  Clock::time_point started_{};
  bool ready_ = false;
};

}  // namespace

void add_up(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("up", "Run all services on this machine, each as its own process");
  command->add_option("-m,--model", options->model, "The GGUF file to serve")->required();
  command->add_option("--workers", options->workers, "Expert workers")
      ->check(config::within(1u, 64u))
      ->capture_default_str();
  command->add_option("--routers", options->routers, "Routers")
      ->check(config::within(1u, 16u))
      ->capture_default_str();
  command->add_option("--host", options->host, "Address of the HTTP API")->capture_default_str();
  command->add_option("--port", options->port, "Port of the HTTP API (0: a free one)")
      ->capture_default_str();
  command->add_option("--state", options->state,
                      "Directory for keys and the registry (default: in the user's state)");
  command->add_option("--log-level", options->log_level, "Least severe level of the services' logs")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  command->add_option("--drain-ms", options->drain_ms, "Longest wait for requests at the end")
      ->check(config::within(0u, 3'600'000u))
      ->capture_default_str();
  command
      ->add_option("--data-encryption", options->data_encryption,
                   "Of calls to experts: curve, or none (peers still prove who they are)")
      ->check(CLI::IsMember({"curve", "none"}))
      ->capture_default_str();
  command->add_option("--set", options->set,
                      "A setting of the services, as router.batch.sequences-max=32");
  command->callback([options, &action] { action = [options] { return Up(*options).run(); }; });
}

}  // namespace conclave::cli
