#include "conclave/fabric/node.hpp"

#include <caf/all.hpp>
#include <system_error>
#include <thread>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/wire/limits.hpp"
#include "context_internal.hpp"
#include "directory.hpp"
#include "lane.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

class Node::Impl {
 public:
  Impl(Context::Internal& zmq_context, caf::actor_system& system, std::shared_ptr<NodeCore> shared)
      : context(zmq_context),
        core(std::move(shared)),
        directory(system, core),
        lane(context, core, system, directory, exports) {}

  /// False: the lane has ended.
  bool post(std::function<void()> task) {
    LaneItem item(std::move(task));
    return core->queue.push(std::move(item));
  }
  /// As post, for what cannot be copied.
  template <class T, class Use>
  bool hand_over(T value, Use use) {
    return post([held = std::make_shared<T>(std::move(value)), use] { use(std::move(*held)); });
  }

  Context::Internal& context;
  const std::shared_ptr<NodeCore> core;
  Directory directory;
  Exports exports;
  Lane lane;
  std::mutex stop_mutex;  // guards the join
  std::thread thread;
};

base::Result<std::unique_ptr<Node>> Node::create(Context& context, caf::actor_system& system,
                                                 NodeIdentity identity,
                                                 const NodeSettings& settings,
                                                 WallClock wall_clock) {
  if (identity.name.empty() || identity.name.size() > wire::kNameBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "a node needs a name of at most 256 bytes");
  }
  if (settings.heartbeat_ms >= settings.peer_timeout_ms) {
    return fail(ErrorCode::kInvalidArgument, "heartbeat-ms must be less than peer-timeout-ms");
  }
  if (context.keys() != nullptr && context.keys()->role() != identity.role) {
    return fail(ErrorCode::kInvalidArgument,
                "the keys are those of a " + std::string(to_string(context.keys()->role())));
  }
  auto core = std::make_shared<NodeCore>();
  core->identity = std::move(identity);
  core->settings = settings;
  core->wall_clock = std::move(wall_clock);
  if (core->queue.descriptor() < 0) {
    return fail(ErrorCode::kUnavailable, "the system has no file descriptor left");
  }
  auto impl = std::make_unique<Impl>(context.internal(), system, std::move(core));
  try {
    impl->thread = std::thread([lane = &impl->lane] { lane->run(); });
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kUnavailable, std::string("no thread: ") + error.what());
  }
  return std::unique_ptr<Node>(new Node(std::move(impl)));
}

Node::Node(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Node::~Node() { stop(std::chrono::milliseconds{0}); }

const NodeIdentity& Node::identity() const { return impl_->core->identity; }

base::Result<std::string> Node::listen(const std::string& address) {
  CONCLAVE_TRY(auto server,
               open_server(impl_->context, impl_->core->settings, identity().role, address));
  std::string bound = server->address;
  if (server->direct) {
    CONCLAVE_TRY_VOID(impl_->context.direct_nodes().add(bound, {impl_->core, &impl_->lane}));
  }
  const bool posted = impl_->hand_over(
      std::move(server), [lane = &impl_->lane](auto added) { lane->add_server(std::move(added)); });
  if (!posted) {
    if (is_direct(bound)) impl_->context.direct_nodes().remove(bound);
    return fail(ErrorCode::kFailedPrecondition, "the node has stopped");
  }
  return bound;
}

base::Result<LinkId> Node::connect(const std::string& address, wire::NodeRole server) {
  auto link = std::make_unique<Link>();
  const LinkId id = impl_->context.next_id();
  link->id = id;
  link->address = address;
  link->server_role = server;
  CONCLAVE_TRY_VOID(open_socket(impl_->context, impl_->core->settings, *link));
  const bool posted = impl_->hand_over(
      std::move(link), [lane = &impl_->lane](auto added) { lane->add_client(std::move(added)); });
  if (!posted) return fail(ErrorCode::kFailedPrecondition, "the node has stopped");
  return id;
}

void Node::disconnect(LinkId link) {
  impl_->post([lane = &impl_->lane, link] { lane->remove(link); });
}

void Node::publish(std::string name, caf::actor actor, Run run,
                   std::span<const wire::NodeRole> roles, MessageTypes types) {
  CONCLAVE_CHECK(!name.empty() && name.size() <= wire::kNameBytesMax && actor);
  Export entry{std::move(actor), run, 0, types};
  for (const wire::NodeRole role : roles) entry.roles |= 1u << static_cast<unsigned>(role);
  impl_->exports.set(std::move(name), std::move(entry));
  impl_->lane.refresh_inline();
}

void Node::on_link(std::function<void(const LinkEvent&)> listener) {
  impl_->post(
      [lane = &impl_->lane, listener = std::move(listener)] { lane->add_listener(listener); });
}

LinkId Node::find(std::string_view node) const { return impl_->directory.find(node); }

caf::actor Node::remote(LinkId link, std::string_view name) {
  CONCLAVE_CHECK(!name.empty() && name.size() <= wire::kNameBytesMax);
  return impl_->directory.remote(link, name);
}

void Node::stop(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  CONCLAVE_CHECK(impl_->thread.get_id() != std::this_thread::get_id());
  impl_->post([lane = &impl_->lane, deadline] { lane->begin_stop(deadline); });
  const std::lock_guard lock(impl_->stop_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace conclave::fabric
