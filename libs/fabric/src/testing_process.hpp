// For tests: nodes with their actor systems, as if each were a process, and peers made by hand.
// Everything waits for what happens, never for a time.
#pragma once

#include <caf/all.hpp>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/fabric/keys.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/fabric/system.hpp"

namespace conclave::fabric::testing {

/// Longer than anything that works takes, on a machine as loaded as may be.
inline constexpr std::chrono::seconds kPatience{30};

/// Things that happened, in order, for a thread that waits for one of them.
template <class T>
class Events {
 public:
  void add(T event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_all();
  }
  /// The first that fits, now or later; it and those before it are taken out. Nothing after
  /// kPatience.
  std::optional<T> wait(const std::function<bool(const T&)>& fits) {
    std::unique_lock lock(mutex_);
    std::optional<T> found;
    changed_.wait_for(lock, kPatience, [&] {
      while (!found && !events_.empty()) {
        if (fits(events_.front())) found = std::move(events_.front());
        events_.pop_front();
      }
      return found.has_value();
    });
    return found;
  }
  std::optional<T> wait() {
    return wait([](const T&) { return true; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> events_;
};

/// A directory with the keys of all roles.
class KeyDirectory {
 public:
  KeyDirectory();
  ~KeyDirectory();
  KeyDirectory(const KeyDirectory&) = delete;
  KeyDirectory& operator=(const KeyDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] KeyRing ring(wire::NodeRole role) const;

 private:
  std::filesystem::path path_;
};

/// A context whose log lines can be waited for.
class TestContext {
 public:
  explicit TestContext(std::optional<KeyRing> keys = std::nullopt);

  Context& get() { return *context_; }
  telemetry::Metrics& metrics() { return metrics_; }
  /// Waits until this was refused, and says how often so far.
  double wait_refused(Refusal reason);
  [[nodiscard]] double refusals(Refusal reason);
  /// The value of a counter or gauge of the nodes.
  double value(const std::string& name, const telemetry::Labels& labels = {}, bool gauge = false);
  Events<std::string>& lines() { return lines_; }

 private:
  telemetry::Metrics metrics_;
  Events<std::string> lines_;
  std::unique_ptr<Context> context_;
};

/// Frequent heartbeats and reconnects, and no time-out for peers made by hand, which are silent.
NodeSettings quick_settings();

/// A node with an actor system of its own, in a context that it may share.
class TestNode {
 public:
  TestNode(TestContext& context, NodeIdentity identity,
           const NodeSettings& settings = quick_settings(), WallClock wall_clock = {});

  Node& operator*() { return *node_; }
  Node* operator->() { return node_.get(); }
  caf::actor_system& system() { return *system_; }
  Events<LinkEvent>& events() { return events_; }
  /// Waits for the next `up` (or `down`).
  LinkEvent wait_up();
  LinkEvent wait_down();
  /// Ends the node, then the system.
  ~TestNode();

 private:
  SystemConfig config_{2};
  std::unique_ptr<caf::actor_system> system_;
  Events<LinkEvent> events_;
  std::unique_ptr<Node> node_;
};

/// What a request gave: a value or an error.
template <class Reply, class Handle, class Message>
base::Result<Reply> ask(caf::actor_system& system, const Handle& whom, Message message) {
  caf::scoped_actor self{system};
  base::Result<Reply> result = base::fail(base::ErrorCode::kInternal, "nothing came");
  self->request(whom, kPatience, std::move(message))
      .receive([&](const Reply& reply) { result = reply; },
               [&](const caf::error& error) { result = base::fail(from_caf(error)); });
  return result;
}

/// A peer made of a bare socket, which can do what a Node never does.
class RawPeer {
 public:
  /// `keys` null: speaks no CURVE.
  RawPeer(const std::string& address, const std::string& server_key, const KeyPair* keys);

  void send_frames(const std::vector<wire::Bytes>& frames);
  void send(const wire::Envelope& envelope, const wire::Message& message = {});
  /// Hello of this node, and the welcome that it gets.
  void link(const NodeIdentity& self);
  /// The next message that is no heartbeat; nothing after kPatience.
  std::optional<std::pair<wire::Envelope, wire::Message>> receive();
  /// The next message of this kind; what comes before it is lost.
  std::optional<std::pair<wire::Envelope, wire::Message>> receive(wire::FrameKind kind);

 private:
  std::optional<std::pair<wire::Envelope, wire::Message>> receive_any();

  std::unique_ptr<zmq::context_t> context_ = std::make_unique<zmq::context_t>();
  zmq::socket_t socket_;
  std::uint64_t incarnation_ = 0;
};

}  // namespace conclave::fabric::testing
