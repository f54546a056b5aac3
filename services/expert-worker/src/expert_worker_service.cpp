#include "conclave/expert_worker/expert_worker_service.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "conclave/devices/device.hpp"
#include "conclave/devices/machine.hpp"
#include "conclave/devices/memory_limit.hpp"
#include "conclave/devices/pin.hpp"
#include "conclave/devices/priority.hpp"
#include "conclave/engine/memory_needs.hpp"
#include "conclave/fabric/call_server.hpp"
#include "conclave/fleet/member.hpp"
#include "expert_host.hpp"
#include "expert_loader.hpp"

namespace conclave::expert_worker {

using base::ErrorCode;
using base::fail;
using base::Status;
using Clock = std::chrono::steady_clock;

namespace {

std::uint64_t available_memory() { return devices::available_memory().value_or(~std::uint64_t{0}); }

// How often an idle worker, and one that drains, looks around: links make progress meanwhile.
constexpr std::chrono::seconds kIdle{1};
constexpr std::chrono::milliseconds kDrainLook{100};
// While experts load, reports go out at most this often: routers can use what is there, and the
// scheduler is not flooded.
constexpr std::chrono::milliseconds kReportPause{50};
constexpr std::string_view kDirect = "direct://";

Status check_memory(std::uint64_t bytes) {
  const engine::MemoryNeed needs[] = {{"the experts that it is to host", bytes}};
  return engine::check_memory(needs, available_memory(),
                              "lower expert-worker.memory-bytes, or start more workers elsewhere");
}

}  // namespace

class ExpertWorkerService::Impl {
 public:
  Impl(const Settings& settings, app::ServiceContext& context, const Lent& lent)
      : settings_(settings), context_(context), lent_(lent) {}

  Status start() {
    try {
      return start_parts();
    } catch (const std::system_error& error) {
      return fail(ErrorCode::kUnavailable, std::string("no thread: ") + error.what());
    }
  }

  [[nodiscard]] Status ready() const {
    if (draining_) return fail(ErrorCode::kUnavailable, "draining");
    const std::lock_guard lock(life_mutex_);
    if (!loader_) return fail(ErrorCode::kUnavailable, "starting");
    const std::string problem = loader_->problem();
    if (!problem.empty()) return fail(ErrorCode::kUnavailable, problem);
    return {};
  }

  void drain(Clock::time_point deadline) {
    draining_ = true;
    if (!member_) return;
    member_->report_now();
    if (address_.starts_with(kDirect)) return;  // its router is this process's, and ended before
    std::unique_lock lock(mutex_);
    while (is_needed() && Clock::now() < deadline) {
      news_.wait_until(lock, std::min(deadline, Clock::now() + kDrainLook));
    }
    server_->drain();
  }

  void stop() {
    draining_ = true;
    if (loader_) loader_->stop();
    reporter_ = nullptr;
    member_.reset();
    hook_ = {};
    keep_loader(nullptr);
    if (node_) node_->stop(std::chrono::milliseconds(200));
    stopping_ = true;
    if (server_) server_->wake();
    if (thread_.joinable()) thread_.join();
    server_.reset();
    node_.reset();
  }

 private:
  Status start_parts() {
    CONCLAVE_TRY_VOID(take_device());
    CONCLAVE_TRY(process_, fleet::ProcessRef::take(lent_.process, settings_.fabric.keys,
                                                   wire::NodeRole::kExpertWorker, context_.log,
                                                   context_.metrics));
    host_ = std::make_unique<ExpertHost>(compute_->compute(), context_.tracer);
    identity_ = {context_.node_name, wire::NodeRole::kExpertWorker,
                 fleet::incarnation_at(context_.wall_clock())};
    CONCLAVE_TRY(server_, fabric::CallServer::create(process_->context(), identity_.name,
                                                     identity_.incarnation, settings_.data, {},
                                                     context_.wall_clock));
    CONCLAVE_TRY_VOID(listen());
    CONCLAVE_TRY(node_, fabric::Node::create(process_->context(), process_->system(), identity_,
                                             settings_.fabric.links, context_.wall_clock));
    store_ = std::make_unique<artifacts::Store>(settings_.artifacts, context_.wall_clock,
                                                context_.metrics, context_.log);
    keep_loader(std::make_unique<ExpertLoader>(
        *host_, *store_,
        LoaderOptions{.memory_bytes = memory_bytes_,
                      .slots = settings_.worker.slots,
                      .threads = compute_->threads(),
                      .nice = static_cast<int>(settings_.worker.load_nice),
                      .check_memory = check_memory},
        [this](bool settled) { changed(settled); }, context_.metrics, context_.log));
    measure();
    fleet::MemberCallbacks callbacks{[this] { return report(); },
                                     [this](wire::ReportReply reply) {
                                       if (!reply.assignments.empty())
                                         loader_->assign(std::move(reply.assignments));
                                     }};
    CONCLAVE_TRY(member_, fleet::Member::join(*node_, process_->system(),
                                              {settings_.fleet.scheduler,
                                               std::chrono::milliseconds(settings_.fleet.report_ms),
                                               context_.node_zone},
                                              std::move(callbacks), context_.log));
    reporter_ = member_.get();
    context_.log.info("expert_worker_started",
                      {{"device", settings_.worker.device},
                       {"address", address_},
                       {"threads", compute_->threads()},
                       {"isa", kernels::to_string(compute_->compute().kernels.isa)},
                       {"memory_bytes", memory_bytes_}});
    return {};
  }

  void keep_loader(std::unique_ptr<ExpertLoader> loader) {
    const std::lock_guard lock(life_mutex_);
    loader_.swap(loader);
  }

  Status take_device() {
    CONCLAVE_TRY(const devices::Device device, devices::Device::parse(settings_.worker.device));
    CONCLAVE_TRY(const devices::Machine machine, devices::discover());
    CONCLAVE_TRY(const devices::CpuSet cpus, devices::processors_of(device, machine));
    memory_bytes_ = settings_.worker.memory_bytes != 0
                        ? settings_.worker.memory_bytes
                        : std::min(machine.memory_limit_bytes / 4 * 3, available_memory());
    if (lent_.compute != nullptr) {
      compute_ = lent_.compute;
      return {};
    }
    // Threads that start later inherit the set.
    CONCLAVE_TRY_VOID(devices::pin_this_process(cpus));
    CONCLAVE_TRY(own_compute_, engine::ComputeHost::create(static_cast<unsigned>(cpus.size()),
                                                           settings_.worker.isa));
    compute_ = own_compute_.get();
    return {};
  }

  Status listen() {
    if (settings_.worker.listen.starts_with(kDirect)) {
      address_ = settings_.worker.listen;
      // The server's destructor waits for calls, while server_ is null already.
      return server_->serve_direct(
          address_.substr(kDirect.size()),
          [this, server = server_.get()](std::span<fabric::IncomingCall* const> calls) {
            ExpertHost::Calls waiting(calls.begin(), calls.end());
            while (!waiting.empty()) host_->serve_next(waiting, *server);
          });
    }
    CONCLAVE_TRY(address_, server_->listen(settings_.worker.listen));
    thread_ = std::thread([this] { compute_loop(); });
    return {};
  }

  // Looks at the links between batches: their heartbeats go on while calls wait, and calls that
  // come meanwhile may be computed with those that wait.
  void compute_loop() {
    // A router of this host that has just sent a call has more of them to send.
    if (const Status status = devices::wake_without_preempting(); !status) {
      context_.log.info("policy_not_changed", {{"error", status.error().message}});
    }
    ExpertHost::Calls waiting;
    while (!stopping_) {
      const Clock::time_point now = Clock::now();
      const auto calls = server_->poll(waiting.empty() ? now + kIdle : now);
      waiting.insert(waiting.end(), calls.begin(), calls.end());
      if (!waiting.empty()) host_->serve_next(waiting, *server_);
    }
  }

  // Whether calls would go nowhere without this worker. The scheduler moves its experts away and
  // then assigns none, but not if it is out of touch, and nobody calls if no router is connected.
  // Routers of this process are drained before it.
  [[nodiscard]] bool is_needed() const {
    return !settings_.worker.listen.starts_with(kDirect) && member_->in_touch() &&
           server_->peers() > 0 && host_->size() > 0;
  }

  // On the loader's thread.
  void changed(bool settled) {
    {
      const std::lock_guard lock(mutex_);  // a drain that just looked must not miss it
    }
    news_.notify_all();
    const Clock::time_point now = Clock::now();
    if (!settled && now < next_report_) return;
    next_report_ = now + kReportPause;
    if (fleet::Member* member = reporter_.load()) member->report_now();
  }

  wire::NodeReport report() {
    const HostLoad load = host_->load();
    const Status is_ready = ready();
    wire::NodeReport report;
    report.state = draining_  ? wire::NodeState::kDraining
                   : is_ready ? wire::NodeState::kReady
                              : wire::NodeState::kStarting;
    if (!is_ready) report.reason = is_ready.error().message;
    report.address =
        fleet::advertised_address(settings_.worker.advertise, address_, settings_.fleet.scheduler);
    report.admin_address = context_.admin_address;
    report.device = settings_.worker.device;
    report.memory_bytes = memory_bytes_;
    report.memory_used_bytes = host_->bytes();
    report.slots = settings_.worker.slots;
    report.epoch_seen = loader_->epoch();
    report.models = host_->hosted();
    report.refused = loader_->refused();
    report.load.pairs_total = load.pairs;
    report.load.calls_total = load.calls;
    report.load.compute_us_total = load.compute_us;
    return report;
  }

  // Numbers that others keep are copied when somebody looks.
  void measure() {
    telemetry::Metrics& metrics = context_.metrics;
    auto& experts = metrics.gauge("conclave_expert_worker_experts", "Experts hosted");
    auto& bytes = metrics.gauge("conclave_expert_worker_expert_bytes", "Memory that they take");
    auto& calls = metrics.counter("conclave_expert_worker_calls_total", "Calls computed");
    auto& merged = metrics.counter("conclave_expert_worker_merged_calls_total",
                                   "Of those, computed together with another one");
    auto& pairs = metrics.counter("conclave_expert_worker_pairs_total", "Pairs computed");
    auto& seconds =
        metrics.counter("conclave_expert_worker_compute_seconds_total", "Time spent computing");
    auto& queued = metrics.counter("conclave_expert_worker_queue_seconds_total",
                                   "Time that calls waited before they were computed, their sum");
    metrics.gauge("conclave_expert_worker_memory_bytes", "Memory that experts may take")
        .set(static_cast<double>(memory_bytes_));
    metrics
        .gauge("conclave_expert_worker_device_info", "Always 1; the labels say what computes",
               {{"device", settings_.worker.device},
                {"isa", std::string(kernels::to_string(compute_->compute().kernels.isa))}})
        .set(1);
    hook_ = metrics.on_scrape([this, &experts, &bytes, &calls, &merged, &pairs, &seconds, &queued] {
      const HostLoad load = host_->load();
      experts.set(static_cast<double>(host_->size()));
      bytes.set(static_cast<double>(host_->bytes()));
      calls.raise_to(static_cast<double>(load.calls));
      merged.raise_to(static_cast<double>(load.merged_calls));
      pairs.raise_to(static_cast<double>(load.pairs));
      seconds.raise_to(static_cast<double>(load.compute_us) * 1e-6);
      queued.raise_to(static_cast<double>(load.queue_us) * 1e-6);
    });
  }

  const Settings settings_;
  app::ServiceContext& context_;
  const Lent lent_;

  std::uint64_t memory_bytes_ = 0;
  std::unique_ptr<engine::ComputeHost> own_compute_;
  engine::ComputeHost* compute_ = nullptr;
  fleet::ProcessRef process_;
  fabric::NodeIdentity identity_;
  std::unique_ptr<ExpertHost> host_;
  std::unique_ptr<artifacts::Store> store_;
  std::unique_ptr<fabric::CallServer> server_;
  std::string address_;
  std::unique_ptr<fabric::Node> node_;
  mutable std::mutex life_mutex_;  // guards the next pointer for ready(), which anybody asks
  std::unique_ptr<ExpertLoader> loader_;
  std::unique_ptr<fleet::Member> member_;
  std::atomic<fleet::Member*> reporter_{nullptr};  // member_, for other threads
  telemetry::Metrics::ScrapeHook hook_;
  std::thread thread_;  // computes
  std::atomic<bool> draining_{false};
  std::atomic<bool> stopping_{false};
  Clock::time_point next_report_{};  // the loader's thread only

  std::mutex mutex_;  // for news_ only
  std::condition_variable news_;
};

ExpertWorkerService::ExpertWorkerService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExpertWorkerService::~ExpertWorkerService() { stop(); }

base::Result<std::unique_ptr<ExpertWorkerService>> ExpertWorkerService::create(
    const Settings& settings, app::ServiceContext& context, const Lent& lent) {
  return std::unique_ptr<ExpertWorkerService>(
      new ExpertWorkerService(std::make_unique<Impl>(settings, context, lent)));
}

Status ExpertWorkerService::start() { return impl_->start(); }
Status ExpertWorkerService::ready() const { return impl_->ready(); }
void ExpertWorkerService::drain(Clock::time_point deadline) { impl_->drain(deadline); }
void ExpertWorkerService::stop() { impl_->stop(); }

}  // namespace conclave::expert_worker
