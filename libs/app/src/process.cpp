#include "conclave/app/process.hpp"

#include <sys/random.h>

#include <csignal>
#include <deque>
#include <iostream>
#include <mutex>
#include <optional>
#include <utility>

#include "clock.hpp"
#include "conclave/app/service_stack.hpp"
#include "conclave/app/signals.hpp"
#include "conclave/app/version.hpp"

namespace conclave::app {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;
using telemetry::Gauge;
using telemetry::Level;
using telemetry::Logger;
using telemetry::Metrics;

// For identifiers that must not come twice in a fleet; none of them is secret.
std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) {
    seed = static_cast<std::uint64_t>(wall_clock().time_since_epoch().count());
  }
  return seed;
}

// The first failure that a running service reported.
class Failure {
 public:
  void report(base::Error error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
  }
  [[nodiscard]] std::optional<base::Error> first() const {
    const std::lock_guard lock(mutex_);
    return error_;
  }

 private:
  mutable std::mutex mutex_;  // guards error_
  std::optional<base::Error> error_;
};

class Process {
 public:
  Process(std::string_view name, const ProcessSettings& settings, std::string node, Signals signals)
      : name_(name),
        settings_(settings),
        node_(std::move(node)),
        signals_(std::move(signals)),
        log_(logger(name_)),
        is_ready_(metrics_.gauge("conclave_ready", "1 if the process takes work, else 0")) {
    metrics_
        .gauge("conclave_build_info", "Always 1; the labels say what runs",
               {{"service", name_}, {"version", std::string(version())}})
        .set(1);
    ready_hook_ = metrics_.on_scrape([this] { is_ready_.set(stack_.ready() ? 1 : 0); });
  }

  int run(std::span<const ServiceRecipe> recipes) {
    int signal = 0;
    if (const base::Status status = start(recipes); status || was_cancelled(status.error())) {
      signal = signals_.wait_for_stop();
    } else {
      return failed_to_start(status.error());
    }
    const std::optional<base::Error> failure = failure_.first();
    if (failure) {
      log_.error("service_failed", {{"error", failure->to_string()}});
    } else {
      log_.info("stopping", {{"signal", signal}});
    }
    stop();
    return failure_.first() ? kExitFailed : kExitOk;
  }

 private:
  [[nodiscard]] Logger logger(const std::string& name) const {
    return Logger::create(name, settings_.log).with({{"node", node_}});
  }

  ServiceContext& context_of(const ServiceRecipe& recipe) {
    return contexts_.emplace_back(ServiceContext{
        logger(recipe.name), metrics_, node_, std::string(version()),
        settings_.admin.host + ":" + std::to_string(admin_->port()), steady_clock::now, wall_clock,
        [this](base::Error error) {
          failure_.report(std::move(error));
          signals_.request_stop();
        },
        [this] { return signals_.is_stop_requested(); }, tracer_.of(recipe.name)});
  }

  base::Status start(std::span<const ServiceRecipe> recipes) {
    const auto begin = steady_clock::now();
    // First, so that /health and /ready answer while a model loads.
    CONCLAVE_TRY(admin_,
                 Admin::start(settings_.admin, {[this] { return stack_.ready(); }, metrics_, name_,
                                                node_, std::string(version()), wall_clock}));
    CONCLAVE_TRY(tracer_, telemetry::Tracer::create(settings_.tracing,
                                                    {node_, std::string(version()),
                                                     steady_clock::now, wall_clock, random_seed()},
                                                    metrics_));
    log_.info("starting", {{"version", version()}, {"admin_port", admin_->port()}});
    for (const ServiceRecipe& recipe : recipes) {
      CONCLAVE_TRY_VOID(check_not_stopping());
      auto service = recipe.create(context_of(recipe));
      if (!service) return base::fail(service.error().within(recipe.name));
      stack_.add(*std::move(service));
    }
    CONCLAVE_TRY_VOID(check_not_stopping());
    CONCLAVE_TRY_VOID(stack_.start());
    log_.info("started", {{"seconds", duration<double>(steady_clock::now() - begin).count()}});
    return {};
  }

  [[nodiscard]] base::Status check_not_stopping() const {
    if (!signals_.is_stop_requested()) return {};
    return base::fail(base::ErrorCode::kCancelled, "told to stop while starting");
  }
  [[nodiscard]] bool was_cancelled(const base::Error& error) const {
    return error.code == base::ErrorCode::kCancelled && signals_.is_stop_requested();
  }

  void stop() {
    const auto begin = steady_clock::now();
    stack_.drain(begin + settings_.node.drain_timeout);
    stack_.stop();
    log_.info("stopped", {{"seconds", duration<double>(steady_clock::now() - begin).count()}});
  }

  int failed_to_start(const base::Error& error) {
    if (log_.enabled(Level::kError)) {
      log_.error("start_failed", {{"error", error.to_string()}});
    } else {
      std::cerr << name_ << ": " << error.to_string() << "\n";
    }
    return error.code == base::ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
  }

  // Destroyed from the bottom up: the endpoint before what it shows, services before what they use.
  const std::string name_;
  const ProcessSettings& settings_;
  const std::string node_;
  Signals signals_;
  const Logger log_;
  Metrics metrics_;
  Failure failure_;
  telemetry::Tracer tracer_;             // counts in metrics_
  std::deque<ServiceContext> contexts_;  // services hold references
  ServiceStack stack_;
  Gauge& is_ready_;
  Metrics::ScrapeHook ready_hook_;
  std::optional<Admin> admin_;
};

int usage_error(std::string_view name, const base::Error& error) {
  std::cerr << name << ": " << error.message << "\n";
  return kExitUsage;
}

}  // namespace

int run_process(std::string_view name, const ProcessSettings& settings,
                std::span<const ServiceRecipe> recipes) {
  // A peer or a log collector that goes away is an error of a write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  auto node = node_name(settings.node.name, name);
  if (!node) return usage_error(name, node.error());
  auto signals = Signals::install();
  if (!signals) {
    std::cerr << name << ": " << signals.error().to_string() << "\n";
    return kExitFailed;
  }
  return Process(name, settings, *std::move(node), *std::move(signals)).run(recipes);
}

}  // namespace conclave::app
