#include "conclave/router/router_service.hpp"

#include <atomic>
#include <caf/all.hpp>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "admission.hpp"
#include "conclave/fabric/state_actor.hpp"
#include "conclave/fleet/member.hpp"
#include "engine_set.hpp"
#include "router_actor.hpp"

namespace conclave::router {

using base::ErrorCode;
using base::fail;
using base::Status;
using Clock = std::chrono::steady_clock;

namespace {

// For the last events of a drain to leave: a queue's worth over a slow link.
constexpr std::chrono::milliseconds kFlushPatience{500};

}  // namespace

class RouterService::Impl {
 public:
  Impl(const Settings& settings, app::ServiceContext& context, const Lent& lent)
      : settings_(settings),
        context_(context),
        lent_(lent),
        admission_(std::size_t{settings.batch.sequences_max} + settings.batch.waiting_max) {}

  Status start() {
    try {
      return start_parts();
    } catch (const std::system_error& error) {
      return fail(ErrorCode::kUnavailable, std::string("no thread: ") + error.what());
    }
  }

  [[nodiscard]] Status ready() const {
    if (admission_.closed()) return fail(ErrorCode::kUnavailable, "draining");
    const std::lock_guard lock(life_mutex_);
    if (!engines_) return fail(ErrorCode::kUnavailable, "starting");
    return engines_->ready();
  }

  void drain(Clock::time_point deadline) {
    admission_.close();
    if (member_) member_->report_now();
    admission_.wait_until_empty(deadline);
  }

  // Nothing of the actor, which is waited for, and of the engines is left when their parts go.
  void stop() {
    admission_.close();
    is_stopping_ = true;  // a model that is being fetched
    if (engines_) engines_->stop();
    reporter_ = nullptr;
    member_.reset();
    if (node_) node_->stop(kFlushPatience);
    end_actor();
    hook_ = {};
    node_.reset();
    keep_engines(nullptr);
  }

 private:
  Status start_parts() {
    CONCLAVE_TRY(process_,
                 fleet::ProcessRef::take(lent_.process, settings_.fabric.keys,
                                         wire::NodeRole::kRouter, context_.log, context_.metrics));
    CONCLAVE_TRY_VOID(take_compute());
    identity_ = {context_.node_name, wire::NodeRole::kRouter,
                 fleet::incarnation_at(context_.wall_clock())};
    CONCLAVE_TRY(node_, fabric::Node::create(process_->context(), process_->system(), identity_,
                                             settings_.fabric.links, context_.wall_clock));
    store_ = std::make_unique<artifacts::Store>(settings_.artifacts, context_.wall_clock,
                                                context_.metrics, context_.log);
    keep_engines(std::make_unique<EngineSet>([this] { return make_engine(); }, context_.log));
    start_actor();
    CONCLAVE_TRY(address_, node_->listen(settings_.router.listen));
    measure();
    CONCLAVE_TRY_VOID(join_fleet());
    context_.log.info("router_started",
                      {{"address", address_},
                       {"threads", compute_->threads()},
                       {"isa", kernels::to_string(compute_->compute().kernels.isa)}});
    return {};
  }

  void keep_engines(std::unique_ptr<EngineSet> engines) {
    const std::lock_guard lock(life_mutex_);
    engines_.swap(engines);
  }

  // Links of its own: the engine's thread drives them.
  base::Result<std::unique_ptr<InferenceEngine>> make_engine() {
    CONCLAVE_TRY(auto client, fabric::CallClient::create(process_->context(), identity_.name,
                                                         identity_.incarnation, settings_.data,
                                                         context_.wall_clock));
    EngineCallbacks callbacks{
        [this](const wire::ModelVersion& version, const wire::Sha256& backbone,
               fabric::Calls& calls) {
          return ModelRun::load(
              version, backbone, *store_, [this] { return is_stopping_.load(); },
              compute_->compute(), settings_.batch, settings_.dispatch, calls, context_.metrics,
              context_.log, [this] { return engines_->promised_bytes(settings_.batch); });
        },
        [this](EngineNews news) { deliver(std::move(news)); },
        [this] {
          if (fleet::Member* member = reporter_.load()) member->report_now();
        }};
    try {
      return std::make_unique<InferenceEngine>(std::move(client), std::move(callbacks),
                                               context_.log, context_.tracer);
    } catch (const std::system_error& error) {
      return fail(ErrorCode::kUnavailable, std::string("no thread: ") + error.what());
    }
  }

  Status take_compute() {
    compute_ = lent_.compute;
    if (compute_ != nullptr) return {};
    CONCLAVE_TRY(own_compute_,
                 engine::ComputeHost::create(settings_.router.threads, settings_.router.isa));
    compute_ = own_compute_.get();
    return {};
  }

  void start_actor() {
    RouterParts parts{*node_,       *engines_,          admission_, settings_.batch.kv_tokens_max,
                      context_.log, context_.wall_clock};
    const RouterActor actor =
        process_->system().spawn<fabric::StateActor<RouterActor, RouterState>>(std::move(parts));
    actor_ = caf::actor_cast<caf::actor>(actor);
    actor_->attach_functor([fail = context_.fail](const caf::error& reason) {
      if (reason != caf::exit_reason::user_shutdown) {
        fail({ErrorCode::kInternal, "the router's actor ended: " + to_string(reason)});
      }
    });
    constexpr wire::NodeRole kCallers[] = {wire::NodeRole::kGateway, wire::NodeRole::kOperator};
    node_->publish(fabric::kInferenceActor, actor, fabric::Run::kScheduled, kCallers);
    node_->on_link([actor = actor_](const fabric::LinkEvent& event) {
      if (!event.up) caf::anon_send(actor, LinkDown{event.link});
    });
  }

  void end_actor() {
    if (!actor_) return;
    caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
    caf::scoped_actor self{process_->system()};
    self->wait_for(actor_);
    actor_ = {};
  }

  Status join_fleet() {
    fleet::MemberCallbacks callbacks{[this] { return report(); },
                                     [this](wire::ReportReply reply) {
                                       if (reply.tables.empty()) return;
                                       engines_->route(std::move(reply.tables));
                                     }};
    CONCLAVE_TRY(member_, fleet::Member::join(*node_, process_->system(),
                                              {settings_.fleet.scheduler,
                                               std::chrono::milliseconds(settings_.fleet.report_ms),
                                               context_.node_zone},
                                              std::move(callbacks), context_.log));
    reporter_ = member_.get();
    return {};
  }

  // On an engine's thread.
  void deliver(EngineNews news) {
    caf::anon_send(actor_, std::make_shared<EngineNews>(std::move(news)));
  }

  wire::NodeReport report() {
    const engine::BatcherStats stats = engines_->stats();
    const Status is_ready = ready();
    wire::NodeReport report;
    report.state = admission_.closed() ? wire::NodeState::kDraining
                   : is_ready          ? wire::NodeState::kReady
                                       : wire::NodeState::kStarting;
    if (!is_ready) report.reason = is_ready.error().message;
    report.address =
        fleet::advertised_address(settings_.router.advertise, address_, settings_.fleet.scheduler);
    report.admin_address = context_.admin_address;
    report.epoch_seen = engines_->epoch();
    report.models = engines_->open();
    report.refused = engines_->refused();
    report.lost = engines_->lost_workers();
    report.load.running = static_cast<std::uint32_t>(stats.running);
    report.load.waiting = static_cast<std::uint32_t>(stats.waiting);
    report.load.kv_tokens_used = stats.kv_tokens_used;
    report.load.kv_tokens_max = stats.kv_tokens_max;
    report.load.tokens_total = stats.generated_tokens;
    return report;
  }

  void measure() {
    struct Row {
      const char* name;
      const char* help;
      double (*value)(const engine::BatcherStats&);
    };
    using Stats = engine::BatcherStats;
    static constexpr auto number = [](auto value) { return static_cast<double>(value); };
    static constexpr Row kRows[] = {
        {"sequences_running", "Sequences in the batch",
         [](const Stats& s) { return number(s.running); }},
        {"sequences_waiting", "Sequences in the queue",
         [](const Stats& s) { return number(s.waiting); }},
        {"kv_tokens_used", "Tokens of KV cache that sequences hold",
         [](const Stats& s) { return number(s.kv_tokens_used); }},
        {"kv_tokens_known", "Tokens of KV cache that the prefix cache knows",
         [](const Stats& s) { return number(s.kv_tokens_known); }},
        {"kv_tokens_filed", "Tokens of KV cache in the file",
         [](const Stats& s) { return number(s.kv_tokens_filed); }},
        {"kv_tokens_max", "Tokens of KV cache in all",
         [](const Stats& s) { return number(s.kv_tokens_max); }},
        {"kv_tokens_populated", "Tokens of KV cache whose memory was taken ahead",
         [](const Stats& s) { return number(s.kv_tokens_populated); }},
        {"prompt_tokens_total", "Prompt tokens computed",
         [](const Stats& s) { return number(s.prompt_tokens); }},
        {"prefix_cache_queried_tokens_total", "Prompt tokens looked for in the prefix cache",
         [](const Stats& s) { return number(s.queried_tokens); }},
        {"prefix_cache_hit_tokens_total", "Prompt tokens found in the prefix cache",
         [](const Stats& s) { return number(s.cached_tokens); }},
        {"prefix_cache_restored_tokens_total", "Prompt tokens read from the file",
         [](const Stats& s) { return number(s.restored_tokens); }},
        {"preemptions_total", "Sequences that had to give their KV blocks back",
         [](const Stats& s) { return number(s.preemptions); }},
        {"recomputed_tokens_total", "Tokens computed again after preemptions",
         [](const Stats& s) { return number(s.recomputed_tokens); }},
        {"degraded_pairs_total",
         "Pairs that went to next-best experts, as nobody had the gate's choice",
         [](const Stats& s) { return number(s.degraded_pairs); }},
        {"generated_tokens_total", "Tokens generated",
         [](const Stats& s) { return number(s.generated_tokens); }},
        {"steps_total", "Steps computed", [](const Stats& s) { return number(s.steps); }},
        {"split_steps_total", "Steps in two micro-batches, as other machines compute experts",
         [](const Stats& s) { return number(s.split_steps); }},
    };
    std::vector<std::function<void(const Stats&)>> shown;
    for (const Row& row : kRows) {
      const std::string name = std::string("conclave_router_") + row.name;
      if (name.ends_with("_total")) {
        auto& counter = context_.metrics.counter(name, row.help);
        shown.emplace_back(
            [&counter, &row](const Stats& stats) { counter.raise_to(row.value(stats)); });
      } else {
        auto& gauge = context_.metrics.gauge(name, row.help);
        shown.emplace_back([&gauge, &row](const Stats& stats) { gauge.set(row.value(stats)); });
      }
    }
    hook_ = context_.metrics.on_scrape([this, shown = std::move(shown)] {
      const Stats stats = engines_->stats();
      for (const auto& show : shown) show(stats);
    });
  }

  const Settings settings_;
  app::ServiceContext& context_;
  const Lent lent_;

  Admission admission_;
  fleet::ProcessRef process_;
  std::unique_ptr<engine::ComputeHost> own_compute_;
  engine::ComputeHost* compute_ = nullptr;
  fabric::NodeIdentity identity_;
  std::unique_ptr<artifacts::Store> store_;
  std::atomic<bool> is_stopping_{false};
  std::unique_ptr<fabric::Node> node_;
  mutable std::mutex life_mutex_;  // guards the next pointer for ready(), which anybody asks
  std::unique_ptr<EngineSet> engines_;
  caf::actor actor_;
  std::string address_;
  std::unique_ptr<fleet::Member> member_;
  std::atomic<fleet::Member*> reporter_{nullptr};  // member_, for the engines' threads
  telemetry::Metrics::ScrapeHook hook_;
};

RouterService::RouterService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RouterService::~RouterService() { stop(); }

base::Result<std::unique_ptr<RouterService>> RouterService::create(const Settings& settings,
                                                                   app::ServiceContext& context,
                                                                   const Lent& lent) {
  return std::unique_ptr<RouterService>(
      new RouterService(std::make_unique<Impl>(settings, context, lent)));
}

Status RouterService::start() { return impl_->start(); }
Status RouterService::ready() const { return impl_->ready(); }
void RouterService::drain(Clock::time_point deadline) { impl_->drain(deadline); }
void RouterService::stop() { impl_->stop(); }

}  // namespace conclave::router
