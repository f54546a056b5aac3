#include "conclave/registry/registry_service.hpp"

#include <atomic>
#include <caf/all.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "conclave/catalog/access.hpp"
#include "conclave/catalog/open.hpp"
#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/state_actor.hpp"
#include "control_actors.hpp"
#include "operations.hpp"
#include "registrar.hpp"
#include "registry_actor.hpp"

namespace conclave::registry {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

// Until a model's server that is away is asked again.
constexpr std::chrono::seconds kAskAgain{10};

}  // namespace

class RegistryService::Impl {
 public:
  Impl(const Settings& settings, app::ServiceContext& context, const Lent& lent)
      : settings_(settings), context_(context), lent_(lent) {}

  Status start() {
    CONCLAVE_TRY(process_, fleet::ProcessRef::take(lent_.process, settings_.fabric.keys,
                                                   wire::NodeRole::kRegistry, context_.log,
                                                   context_.metrics));
    CONCLAVE_TRY(catalog_, open_database());
    CONCLAVE_TRY_VOID(ensure_admin_key());
    store_ = std::make_unique<artifacts::Store>(settings_.artifacts, context_.wall_clock,
                                                context_.metrics, context_.log);
    registrar_ = std::make_unique<Registrar>(*store_, known_sums(), context_.metrics, context_.now,
                                             context_.log);
    const fabric::NodeIdentity identity{context_.node_name, wire::NodeRole::kRegistry,
                                        fleet::incarnation_at(context_.wall_clock())};
    CONCLAVE_TRY(node_, fabric::Node::create(process_->context(), process_->system(), identity,
                                             settings_.fabric.links, context_.wall_clock));
    RegistryParts parts{*catalog_, *registrar_, RegistryMetrics(context_.metrics), context_.log,
                        context_.wall_clock};
    const RegistryActor actor =
        process_->system().spawn<fabric::StateActor<RegistryActor, RegistryState>, caf::detached>(
            std::move(parts));
    actor_ = caf::actor_cast<caf::actor>(actor);
    node_->on_link([actor](const fabric::LinkEvent& event) {
      caf::anon_send(actor, LinkRole{event.link, event.up, event.peer.role});
    });
    node_->publish(fabric::kCatalogActor, actor, fabric::Run::kScheduled);
    CONCLAVE_TRY_VOID(start_control(identity.incarnation));
    CONCLAVE_TRY(address_, node_->listen(settings_.registry.listen));
    CONCLAVE_TRY_VOID(register_files());
    context_.log.info(
        "registry_started",
        {{"address", address_}, {"database", catalog::redacted(settings_.registry.database)}});
    is_started_ = true;
    return {};
  }

  [[nodiscard]] Status ready() const {
    if (is_draining_) return fail(ErrorCode::kUnavailable, "draining");
    if (!is_started_) return fail(ErrorCode::kUnavailable, "starting");
    const std::size_t registered = registered_;
    if (registered == files_.size()) return {};
    return fail(ErrorCode::kUnavailable, "registering " + files_[registered] + " (" +
                                             std::to_string(registrar_->percent()) + " %)");
  }

  void drain() { is_draining_ = true; }

  void stop() {
    drain();
    if (registrar_) registrar_->stop();  // its last answers still find the actor
    if (jobs_) jobs_->stop();
    if (operations_) operations_->stop();  // what has ended is written
    watch_.reset();
    if (node_) node_->stop(std::chrono::milliseconds(200));
    end(files_actor_);
    end(admin_actor_);
    end(ledger_actor_);
    end(actor_);  // they use the catalogue
    node_.reset();
    catalog_.reset();
  }

  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  // A server may start beside this process; every try waits for it some time by itself.
  base::Result<std::unique_ptr<catalog::Catalog>> open_database() {
    const auto give_up = context_.now() + settings_.registry.database_wait;
    for (;;) {
      auto opened = catalog::open_catalog(settings_.registry.database);
      const bool is_away = !opened && opened.error().code == ErrorCode::kUnavailable &&
                           catalog::is_postgres_url(settings_.registry.database);
      if (!is_away || context_.now() >= give_up) return opened;
      if (context_.is_stopping()) return fail(ErrorCode::kCancelled, "told to stop");
    }
  }

  // Makes sure that the secret of the settings' file opens everything.
  Status ensure_admin_key() {
    const std::string& file = settings_.registry.admin_key_file;
    if (file.empty()) return {};
    std::ifstream in(file, std::ios::binary);
    std::string secret((std::istreambuf_iterator<char>(in)), {});
    while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
    if (!in || secret.empty()) {
      return fail(ErrorCode::kInvalidArgument,
                  "registry.admin-key-file: " + file + " cannot be read, or is empty");
    }
    catalog::NewApiKey key;
    key.tenant = "operators";
    key.name = "admin-key-file";
    key.role = catalog::Role::kAdmin;
    catalog::Change change;
    change.actor = "node:" + context_.node_name;
    change.now_unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                             context_.wall_clock().time_since_epoch())
                             .count();
    const auto made = catalog_->ensure_key(key, secret, change);
    if (!made) return fail(made.error().within("registry.admin-key-file"));
    return {};
  }

  // The ledger and the administration, each on a thread of its own beside the catalogue's.
  Status start_control(std::uint64_t incarnation) {
    operations_ = std::make_unique<Operations>(
        *catalog_, context_.node_name + "/" + std::to_string(incarnation), context_.wall_clock,
        context_.log);
    jobs_ = std::make_unique<JobThread>();
    const RegistryMetrics metrics(context_.metrics);
    const auto ledger =
        process_->system().spawn<fabric::StateActor<LedgerActor, LedgerState>, caf::detached>(
            std::make_unique<Ledger>(*catalog_, context_.wall_clock), *node_, metrics);
    const auto admin =
        process_->system().spawn<fabric::StateActor<fabric::AdminActor, AdminState>, caf::detached>(
            std::make_unique<AdminApi>(AdminParts{*catalog_, *registrar_, *jobs_, *operations_,
                                                  context_.wall_clock, context_.version}),
            metrics, context_.log);
    ledger_actor_ = caf::actor_cast<caf::actor>(ledger);
    admin_actor_ = caf::actor_cast<caf::actor>(admin);
    node_->on_link([ledger](const fabric::LinkEvent& event) {
      caf::anon_send(ledger, LinkPeer{event.link, event.up ? event.peer.name : std::string(),
                                      event.peer.role});
    });
    constexpr wire::NodeRole kAdministrators[] = {wire::NodeRole::kGateway};
    node_->publish(fabric::kLedgerActor, ledger, fabric::Run::kScheduled);
    node_->publish(fabric::kAdminActor, admin, fabric::Run::kScheduled, kAdministrators);
    CONCLAVE_TRY(watch_, catalog_->watch([ledger](std::uint64_t revision) {
      caf::anon_send(ledger, wire::CatalogChanged{revision});
    }));
    return {};
  }

  // Where the sums of files are kept that have been read before.
  [[nodiscard]] std::unique_ptr<const catalog::SumStore> known_sums() const {
    const RegistrySettings& settings = settings_.registry;
    const bool is_beside = settings.sums.empty() && settings.database != ":memory:" &&
                           !catalog::is_postgres_url(settings.database);
    const std::string folder = is_beside ? settings.database + ".sums" : settings.sums;
    if (settings.verify || folder.empty()) return nullptr;
    return std::make_unique<const catalog::SumStore>(folder);
  }

  // The files of the settings go the way of everybody's requests, one after the other, so that the
  // last one has the highest version where names agree.
  Status register_files() {
    for (const std::string& file : settings_.registry.models) {
      if (artifacts::has_scheme(file)) {
        CONCLAVE_TRY(const artifacts::Location where, artifacts::Location::parse(file));
        files_.push_back(where.text());
        continue;
      }
      std::error_code error;
      const std::filesystem::path path = std::filesystem::absolute(file, error);
      if (error || !std::filesystem::is_regular_file(path, error)) {
        return fail(ErrorCode::kInvalidArgument, "registry.models: " + file + " is no file");
      }
      files_.push_back(path.lexically_normal().string());
    }
    if (files_.empty()) return {};
    files_actor_ = process_->system().spawn([this](caf::event_based_actor* self) {
      register_next(self);
      return caf::behavior{[this, self](caf::tick_atom) { register_next(self); }};
    });
    return {};
  }

  // Without a time-out: the registrar always answers, and reading takes as long as the disk takes.
  void register_next(caf::event_based_actor* self) {
    if (registered_ == files_.size()) return;
    self->request(caf::actor_cast<RegistryActor>(actor_), caf::infinite,
                  wire::RegisterModel{"", files_[registered_], {std::string(kCurrentAlias)}})
        .then(
            [this, self](const wire::ModelRecord&) {
              ++registered_;
              register_next(self);
            },
            [this, self](const caf::error& error) {
              base::Error why = fabric::from_caf(error).within(files_[registered_]);
              if (why.code == ErrorCode::kUnavailable &&
                  artifacts::has_scheme(files_[registered_])) {
                // The catalog may know it, and serves what it knows meanwhile.
                context_.log.warn("model_unreachable", {{"error", why.to_string()}});
                self->delayed_send(self, kAskAgain, caf::tick_atom_v);
                return;
              }
              if (why.code != ErrorCode::kCancelled) context_.fail(std::move(why));
            });
  }

  // Waits: the actor uses what is destroyed next.
  void end(caf::actor& actor) {
    if (!actor) return;
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    caf::scoped_actor self(process_->system());
    self->wait_for(actor);
    actor = {};
  }

  const Settings settings_;
  app::ServiceContext& context_;
  const Lent lent_;

  fleet::ProcessRef process_;
  std::unique_ptr<catalog::Catalog> catalog_;
  std::unique_ptr<catalog::Watch> watch_;
  std::unique_ptr<Operations> operations_;
  std::unique_ptr<artifacts::Store> store_;
  std::unique_ptr<Registrar> registrar_;
  std::unique_ptr<JobThread> jobs_;
  std::unique_ptr<fabric::Node> node_;
  caf::actor actor_;
  caf::actor ledger_actor_;
  caf::actor admin_actor_;
  std::string address_;
  std::vector<std::string> files_;  // to register; not changed once start() returned
  caf::actor files_actor_;
  std::atomic<std::size_t> registered_{0};  // of files_
  std::atomic<bool> is_started_{false};
  std::atomic<bool> is_draining_{false};
};

RegistryService::RegistryService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RegistryService::~RegistryService() { stop(); }

base::Result<std::unique_ptr<RegistryService>> RegistryService::create(const Settings& settings,
                                                                       app::ServiceContext& context,
                                                                       const Lent& lent) {
  return std::unique_ptr<RegistryService>(
      new RegistryService(std::make_unique<Impl>(settings, context, lent)));
}

Status RegistryService::start() { return impl_->start(); }
Status RegistryService::ready() const { return impl_->ready(); }
void RegistryService::drain(std::chrono::steady_clock::time_point) { impl_->drain(); }
void RegistryService::stop() { impl_->stop(); }
std::string RegistryService::address() const { return impl_->address(); }

}  // namespace conclave::registry
