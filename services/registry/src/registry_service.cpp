#include "conclave/registry/registry_service.hpp"

#include <caf/all.hpp>
#include <filesystem>
#include <mutex>
#include <utility>

#include "conclave/catalog/sqlite_catalog.hpp"
#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/state_actor.hpp"
#include "registrar.hpp"
#include "registry_actor.hpp"

namespace conclave::registry {

using base::ErrorCode;
using base::fail;
using base::Status;

class RegistryService::Impl {
 public:
  Impl(const Settings& settings, app::ServiceContext& context, const Lent& lent)
      : settings_(settings), context_(context), lent_(lent) {}

  Status start() {
    CONCLAVE_TRY(process_, fleet::ProcessRef::take(lent_.process, settings_.fabric.keys,
                                                   wire::NodeRole::kRegistry, context_.log,
                                                   context_.metrics));
    CONCLAVE_TRY(catalog_, catalog::SqliteCatalog::open(settings_.registry.database));
    registrar_ = std::make_unique<Registrar>(context_.log);
    const fabric::NodeIdentity identity{context_.node_name, wire::NodeRole::kRegistry,
                                        fleet::incarnation_at(context_.wall_clock())};
    CONCLAVE_TRY(node_, fabric::Node::create(process_->context(), process_->system(), identity,
                                             settings_.fabric.links));
    RegistryParts parts{*catalog_, *registrar_, RegistryMetrics(context_.metrics), context_.log,
                        context_.wall_clock};
    const RegistryActor actor =
        process_->system().spawn<fabric::StateActor<RegistryActor, RegistryState>>(
            std::move(parts));
    actor_ = caf::actor_cast<caf::actor>(actor);
    node_->publish(fabric::kCatalogActor, actor_, fabric::Run::kScheduled);
    CONCLAVE_TRY(const std::string address, node_->listen(settings_.registry.listen));
    CONCLAVE_TRY_VOID(register_files());
    context_.log.info("registry_started",
                      {{"address", address}, {"database", settings_.registry.database}});
    return {};
  }

  [[nodiscard]] Status ready() const {
    const std::lock_guard lock(mutex_);
    return state_;
  }

  void drain() { set_state(fail(ErrorCode::kUnavailable, "draining")); }

  void stop() {
    registrar_.reset();  // its last answers still find the actor
    if (node_) node_->stop(std::chrono::milliseconds(200));
    if (files_) caf::anon_send_exit(files_, caf::exit_reason::user_shutdown);
    if (actor_) {
      caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
      caf::scoped_actor self(process_->system());
      self->wait_for(actor_);  // it uses the catalogue
    }
    files_ = {};
    actor_ = {};
    node_.reset();
    catalog_.reset();
  }

 private:
  // The files of the settings go the way of everybody's requests, one after the other, so that the
  // last one has the highest version where names agree.
  Status register_files() {
    for (const std::string& file : settings_.registry.models) {
      std::error_code error;
      const std::filesystem::path path = std::filesystem::absolute(file, error);
      if (error || !std::filesystem::is_regular_file(path, error)) {
        return fail(ErrorCode::kInvalidArgument, "registry.models: " + file + " is no file");
      }
      waiting_.push_back(path.string());
    }
    if (waiting_.empty()) {
      set_state({});
      return {};
    }
    set_state(fail(ErrorCode::kUnavailable, "registering " + waiting_.front()));
    files_ = process_->system().spawn([this](caf::event_based_actor* self) {
      register_next(self, 0);
      return caf::behavior{[](caf::tick_atom) {}};
    });
    return {};
  }

  void register_next(caf::event_based_actor* self, std::size_t index) {
    if (index == waiting_.size()) {
      set_state({});
      return;
    }
    self->request(caf::actor_cast<RegistryActor>(actor_), caf::infinite,
                  wire::RegisterModel{"", waiting_[index], {std::string(kCurrentAlias)}})
        .then([this, self, index](const wire::ModelRecord&) { register_next(self, index + 1); },
              [this, index](const caf::error& error) {
                base::Error why = fabric::from_caf(error).within(waiting_[index]);
                set_state(fail(why));
                if (why.code != ErrorCode::kCancelled) context_.fail(std::move(why));
              });
  }

  void set_state(Status state) {
    const std::lock_guard lock(mutex_);
    state_ = std::move(state);
  }

  const Settings settings_;
  app::ServiceContext& context_;
  const Lent lent_;

  fleet::ProcessRef process_;
  std::unique_ptr<catalog::SqliteCatalog> catalog_;
  std::unique_ptr<Registrar> registrar_;
  std::unique_ptr<fabric::Node> node_;
  caf::actor actor_;
  caf::actor files_;
  std::vector<std::string> waiting_;

  mutable std::mutex mutex_;  // guards state_
  Status state_ = fail(ErrorCode::kUnavailable, "starting");
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

}  // namespace conclave::registry
