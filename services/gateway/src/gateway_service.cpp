#include "conclave/gateway/gateway_service.hpp"

#include <atomic>
#include <caf/all.hpp>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "api_front.hpp"
#include "conclave/fabric/state_actor.hpp"
#include "conclave/fleet/member.hpp"
#include "conclave/http/server.hpp"
#include "conclave/quota/redis.hpp"
#include "control_actor.hpp"
#include "gateway_actor.hpp"
#include "random_source.hpp"
#include "usage_spool.hpp"

namespace conclave::gateway {

using base::Status;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kGoodbye{500};

/// Posts to the actor. Submissions are bounded by their tickets, the rest by open connections.
class ActorBackend final : public Backend {
 public:
  ActorBackend(GatewayActor actor, ControlActor control)
      : actor_(std::move(actor)), control_(std::move(control)) {}

  void submit(Submission submission) override {
    const bool at_door = submission.key.has_value();
    auto message = std::make_shared<Submission>(std::move(submission));
    if (at_door) {
      caf::anon_send(control_, std::move(message));
    } else {
      caf::anon_send(actor_, std::move(message));
    }
  }
  // By the door in any case: it must not overtake its request.
  void client_gone(RequestId request) override { caf::anon_send(control_, ClientGone{request}); }
  void tokenize(TokenizeCall call) override {
    caf::anon_send(actor_, std::make_shared<TokenizeCall>(std::move(call)));
  }
  void detokenize(DetokenizeCall call) override {
    caf::anon_send(actor_, std::make_shared<DetokenizeCall>(std::move(call)));
  }
  void administer(AdminCall call) override {
    caf::anon_send(control_, std::make_shared<AdminCall>(std::move(call)));
  }

 private:
  const GatewayActor actor_;
  const ControlActor control_;
};

// What the HTTP server says by itself, in the API's shape.
http::Response server_error(unsigned status, std::string message) {
  return error_response({status, std::move(message), {}, {}, 0});
}

std::int64_t unix_seconds(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

// Two processes that start in the same nanosecond still differ by their names.
std::uint64_t seed_of(const std::string& node, std::uint64_t incarnation) {
  return std::hash<std::string>{}(node) ^ incarnation;
}

// Of the settings; none: there is no Redis.
base::Result<std::optional<quota::RedisAddress>> redis_address(const GatewaySettings& settings) {
  const std::string& file = settings.redis_password_file;
  if (settings.redis.empty()) {
    if (file.empty()) return std::nullopt;
    return base::fail(base::ErrorCode::kInvalidArgument,
                      "gateway.redis-password-file: there is no gateway.redis");
  }
  CONCLAVE_TRY(auto address, quota::parse_redis_url(settings.redis.reveal()));
  if (file.empty()) return address;
  std::ifstream in(file);
  std::getline(in, address.password);
  if (!in || address.password.empty()) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      "gateway.redis-password-file: there is no password in " + file);
  }
  return address;
}

}  // namespace

class GatewayService::Impl {
 public:
  Impl(const Settings& settings, app::ServiceContext& context, const Lent& lent)
      : settings_(settings),
        context_(context),
        lent_(lent),
        admission_(Admission::create(settings.gateway.streams_max)),
        metrics_(context.metrics),
        random_(seed_of(context.node_name, fleet::incarnation_at(context.wall_clock()))) {}

  Status start() {
    CONCLAVE_TRY(process_,
                 fleet::ProcessRef::take(lent_.process, settings_.fabric.keys,
                                         wire::NodeRole::kGateway, context_.log, context_.metrics));
    const fabric::NodeIdentity identity{context_.node_name, wire::NodeRole::kGateway,
                                        fleet::incarnation_at(context_.wall_clock())};
    CONCLAVE_TRY(node_, fabric::Node::create(process_->context(), process_->system(), identity,
                                             settings_.fabric.links, context_.wall_clock));
    CONCLAVE_TRY(spool_, UsageSpool::claim(settings_.gateway.usage_spool));
    CONCLAVE_TRY_VOID(open_quotas());
    start_control(identity.incarnation);
    start_actor();
    caf::anon_send(control_, Inside{actor_});
    make_front();
    CONCLAVE_TRY_VOID(start_server());
    measure();
    CONCLAVE_TRY_VOID(join_fleet());
    for (const std::string& address : settings_.gateway.registry) {
      CONCLAVE_TRY_VOID(node_->connect(address, wire::NodeRole::kRegistry));
    }
    context_.log.info("gateway_started",
                      {{"host", settings_.gateway.host}, {"port", server_->port()}});
    return {};
  }

  [[nodiscard]] Status ready() const {
    if (draining_) return base::fail(base::ErrorCode::kUnavailable, "draining");
    return status_.ready();
  }

  [[nodiscard]] std::uint16_t port() const { return server_ ? server_->port() : std::uint16_t{0}; }

  void drain(Clock::time_point deadline) {
    draining_ = true;
    if (!server_) return;
    front_->drain();
    if (member_) member_->report_now();
    if (!admission_->wait_empty(deadline)) {
      context_.log.warn("requests_left", {{"open", admission_->open()}});
    }
    server_->drain();
    server_->wait_idle(deadline);
  }

  // In the reverse order of start(); whatever start() did not reach is not there.
  void stop() {
    draining_ = true;
    hook_ = {};
    redis_hook_ = {};
    member_.reset();
    server_.reset();
    if (node_) node_->stop(kGoodbye);
    end(actor_);
    end(control_);
    spool_ = UsageSpool();
    front_.reset();
    backend_.reset();
    quotas_.reset();
    redis_.reset();
    node_.reset();
  }

 private:
  Status open_quotas() {
    const auto clock = [this] {
      return std::int64_t{std::chrono::duration_cast<std::chrono::milliseconds>(
                              context_.wall_clock().time_since_epoch())
                              .count()};
    };
    CONCLAVE_TRY(const auto address, redis_address(settings_.gateway));
    if (!address) {
      quotas_ = quota::memory_store(clock);
      return {};
    }
    quota::RedisOptions options{.address = *address, .timeout = settings_.gateway.redis_timeout};
    options.changed = [log = context_.log,
                       host = address->host + ":" + std::to_string(address->port)](
                          bool up, const std::string& why) {
      if (up) {
        log.info("redis_answers", {{"redis", host}});
      } else {
        log.warn("redis_away", {{"redis", host}, {"why", why}, {"quotas", "counted alone"}});
      }
    };
    redis_ = quota::shared_store(std::move(options), clock);
    quotas_ = redis_;
    return {};
  }

  void start_actor() {
    GatewayActorParts parts{
        *node_,
        metrics_,
        status_,
        {context_.node_name, settings_.gateway.request_timeout,
         [this] { return unix_seconds(context_.wall_clock()); }, [this] { return random_(); },
         settings_.gateway.resume_timeout, settings_.gateway.hold_timeout,
         settings_.gateway.prefix_blocks_max,
         [control = control_](const std::optional<wire::Sha256>& key, const std::string& model,
                              const Usage& usage) {
           caf::anon_send(control, Used{key, model, usage.prompt_tokens, usage.completion_tokens,
                                        usage.expert_pairs, usage.device_us});
         },
         context_.tracer},
        context_.log,
        context_.now};
    actor_ = process_->system().spawn<fabric::StateActor<GatewayActor, GatewayActorState>>(
        std::move(parts));
    constexpr wire::NodeRole kRouters[] = {wire::NodeRole::kRouter};
    node_->publish(fabric::kStreamsActor, actor_, fabric::Run::kScheduled, kRouters);
    node_->on_link([actor = actor_](const fabric::LinkEvent& event) {
      if (event.peer.role == wire::NodeRole::kRouter) {
        caf::anon_send(actor, LinkChange{RouterId{event.link}, event.up});
      } else if (event.peer.role == wire::NodeRole::kRegistry) {
        caf::anon_send(actor, RegistryLink{event.link, event.up});
      }
    });
  }

  void start_control(std::uint64_t incarnation) {
    ControlParts parts{*node_,
                       context_.node_name + "/" + std::to_string(incarnation),
                       spool_.file(),
                       {settings_.gateway.require_key,
                        context_.node_name + "/" + std::to_string(incarnation), quotas_},
                       context_.metrics,
                       metrics_,
                       context_.log,
                       context_.now,
                       context_.wall_clock};
    control_ =
        process_->system().spawn<fabric::StateActor<ControlActor, ControlState>>(std::move(parts));
    constexpr wire::NodeRole kRegistries[] = {wire::NodeRole::kRegistry};
    node_->publish(fabric::kWatcherActor, control_, fabric::Run::kScheduled, kRegistries);
    node_->on_link([control = control_](const fabric::LinkEvent& event) {
      const wire::NodeRole role = event.peer.role;
      if (role != wire::NodeRole::kRegistry && role != wire::NodeRole::kScheduler) return;
      caf::anon_send(control, OwnerLink{role, event.link, event.up});
    });
  }

  // An actor's state borrows from this object, so it must be over before.
  template <class Handle>
  void end(Handle& actor) {
    if (!actor) return;
    caf::scoped_actor self{process_->system()};
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    self->wait_for(actor);
    actor = Handle();
  }

  void make_front() {
    backend_ = std::make_unique<ActorBackend>(actor_, control_);
    front_ = std::make_unique<ApiFront>(
        FrontParts{*backend_, *admission_, metrics_, status_, [this] { return random_(); },
                   context_.now, [this] { return context_.metrics.expose(); }, context_.version,
                   settings_.gateway.require_key});
  }

  Status start_server() {
    const GatewaySettings& wanted = settings_.gateway;
    http::ServerOptions options;
    options.address = wanted.host;
    options.port = wanted.port;
    options.threads = wanted.http_threads;
    options.body_bytes_max = wanted.body_bytes_max;
    options.connections_max = wanted.connections_max;
    options.stream_buffer_bytes_max = wanted.stream_buffer_bytes_max;
    options.error_response = server_error;
    options.unix_time = [this] { return unix_seconds(context_.wall_clock()); };
    CONCLAVE_TRY(server_,
                 http::Server::start(options, [this](std::shared_ptr<http::Exchange> exchange) {
                   front_->handle(std::move(exchange));
                 }));
    return {};
  }

  void measure() {
    telemetry::Metrics& metrics = context_.metrics;
    auto& connections = metrics.gauge("conclave_gateway_connections", "Open HTTP connections");
    auto& streams = metrics.gauge("conclave_gateway_streams", "Prompts that are open");
    auto& rejected =
        metrics.counter("conclave_gateway_http_rejected_total",
                        "Requests answered by the HTTP server: malformed or too large");
    auto& overflowed = metrics.counter("conclave_gateway_slow_clients_total",
                                       "Streams given up because their client was too slow");
    hook_ = metrics.on_scrape([this, &connections, &streams, &rejected, &overflowed] {
      const http::ServerStats stats = server_->stats();
      connections.set(static_cast<double>(stats.connections_open));
      streams.set(static_cast<double>(admission_->open()));
      rejected.raise_to(static_cast<double>(stats.requests_rejected));
      overflowed.raise_to(static_cast<double>(stats.streams_overflowed));
    });
    measure_redis();
  }

  void measure_redis() {
    auto& up = context_.metrics.gauge("conclave_gateway_redis_up",
                                      "1 while Redis counts quotas for all gateways; 0 "
                                      "also if there is none");
    auto& alone = context_.metrics.counter(
        "conclave_gateway_quota_alone_total",
        "Requests that this gateway counted by itself since Redis did not answer");
    redis_hook_ = context_.metrics.on_scrape([this, &up, &alone] {
      if (!redis_) return;
      up.set(redis_->up() ? 1.0 : 0.0);
      alone.raise_to(static_cast<double>(redis_->alone()));
    });
  }

  Status join_fleet() {
    fleet::MemberCallbacks callbacks{
        [this] { return report(); },
        [actor = actor_](wire::ReportReply reply) {
          if (!reply.fleet) return;
          caf::anon_send(actor, std::make_shared<const wire::Fleet>(std::move(*reply.fleet)));
        },
        [control = control_](fabric::LinkId link) {
          caf::anon_send(control, OwnerLink{wire::NodeRole::kScheduler, link, true, true});
        }};
    CONCLAVE_TRY(member_, fleet::Member::join(*node_, process_->system(),
                                              {settings_.fleet.scheduler,
                                               std::chrono::milliseconds(settings_.fleet.report_ms),
                                               context_.node_zone},
                                              std::move(callbacks), context_.log));
    return {};
  }

  wire::NodeReport report() {
    const Status is_ready = ready();
    wire::NodeReport report;
    report.state = draining_  ? wire::NodeState::kDraining
                   : is_ready ? wire::NodeState::kReady
                              : wire::NodeState::kStarting;
    if (!is_ready) report.reason = is_ready.error().message;
    report.address = settings_.gateway.host + ":" + std::to_string(port());
    report.admin_address = context_.admin_address;
    report.load.running = static_cast<std::uint32_t>(admission_->open());
    return report;
  }

  const Settings settings_;
  app::ServiceContext& context_;
  const Lent lent_;

  const std::shared_ptr<Admission> admission_;
  GatewayMetrics metrics_;
  GatewayStatus status_;
  RandomSource random_;
  std::atomic<bool> draining_{false};

  fleet::ProcessRef process_;
  std::unique_ptr<fabric::Node> node_;
  UsageSpool spool_;
  ControlActor control_;
  GatewayActor actor_;
  std::unique_ptr<ActorBackend> backend_;
  std::unique_ptr<ApiFront> front_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<fleet::Member> member_;
  std::shared_ptr<quota::SharedStore> redis_;  // null: nobody counts together
  std::shared_ptr<quota::Store> quotas_;       // the same, or in memory
  telemetry::Metrics::ScrapeHook hook_;
  telemetry::Metrics::ScrapeHook redis_hook_;
};

GatewayService::GatewayService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GatewayService::~GatewayService() { stop(); }

base::Result<std::unique_ptr<GatewayService>> GatewayService::create(const Settings& settings,
                                                                     app::ServiceContext& context,
                                                                     const Lent& lent) {
  return std::unique_ptr<GatewayService>(
      new GatewayService(std::make_unique<Impl>(settings, context, lent)));
}

Status GatewayService::start() { return impl_->start(); }
Status GatewayService::ready() const { return impl_->ready(); }
void GatewayService::drain(Clock::time_point deadline) { impl_->drain(deadline); }
void GatewayService::stop() { impl_->stop(); }
std::uint16_t GatewayService::port() const { return impl_->port(); }

}  // namespace conclave::gateway
