// For tests of the control plane: the real registry and scheduler, and nodes made by hand, each as
// if it were a process of its own. Everything waits for what happens, never for a time.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "conclave/app/service.hpp"
#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/keys.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fleet/member.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/registry/registry_service.hpp"
#include "conclave/scheduler/scheduler_service.hpp"

namespace conclave::test {

/// Longer than anything that works takes, on a machine as loaded as may be.
inline constexpr std::chrono::seconds kPatience{60};

inline std::string demo_model() {
  return std::string(CONCLAVE_SOURCE_DIR) + "/models/demo/conclave-demo.gguf";
}

/// What a process lends to its service, and the errors with which that wanted to end it.
class Host {
 public:
  explicit Host(const std::string& name)
      : context_{telemetry::Logger(),
                 metrics_,
                 name,
                 "test",
                 "127.0.0.1:1",
                 [] { return std::chrono::steady_clock::now(); },
                 [] { return std::chrono::system_clock::now(); },
                 [this](base::Error error) {
                   const std::lock_guard lock(mutex_);
                   failure_ = std::move(error);
                   changed_.notify_all();
                 },
                 [] { return false; }} {}

  app::ServiceContext& context() { return context_; }
  telemetry::Metrics& metrics() { return metrics_; }
  std::optional<base::Error> wait_failure() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [this] { return failure_.has_value(); });
    return failure_;
  }

 private:
  telemetry::Metrics metrics_;
  app::ServiceContext context_;
  std::mutex mutex_;  // guards failure_
  std::condition_variable changed_;
  std::optional<base::Error> failure_;
};

/// Over TCP each node has its own process and the keys of its role; inproc they share one.
class World {
 public:
  explicit World(bool over_tcp) {
    folder_ = testing::TempDir() + "control_plane." + std::to_string(::getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    if (over_tcp) {
      EXPECT_TRUE(fabric::write_keys(folder_ + "/keys"));
    } else {
      shared_ = fleet::Process::create("", wire::NodeRole::kOperator, telemetry::Logger(), metrics_)
                    .value();
    }
  }
  ~World() {
    shared_.reset();
    std::filesystem::remove_all(folder_);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] std::string keys() const { return shared_ ? "" : folder_ + "/keys"; }
  [[nodiscard]] fleet::Process* shared() const { return shared_.get(); }
  /// Where a service shall listen.
  [[nodiscard]] std::string address(const std::string& service) const {
    return shared_ ? "inproc://" + service : "tcp://127.0.0.1:0";
  }

 private:
  std::string folder_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fleet::Process> shared_;
};

/// A service in a process of its own.
template <class Service>
class Running {
 public:
  Running(const World& world, typename Service::Settings settings)
      : host_(std::string(Service::kName)) {
    settings.fabric.keys = world.keys();
    settings.fabric.links.heartbeat_ms = 200;
    settings.fabric.links.peer_timeout_ms = 5000;
    settings.fabric.links.reconnect_ms = 10;
    service_ = Service::create(settings, host_.context(), {world.shared()}).value();
    started_ = service_->start();
  }
  ~Running() { service_->stop(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Service* operator->() { return service_.get(); }
  Host& host() { return host_; }
  [[nodiscard]] const base::Status& started() const { return started_; }

 private:
  Host host_;
  std::unique_ptr<Service> service_;
  base::Status started_;
};

/// A node without a service behind it.
class Peer {
 public:
  Peer(const World& world, std::string name, wire::NodeRole role)
      : process_(fleet::ProcessRef::take(world.shared(), world.keys(), role, telemetry::Logger(),
                                         metrics_)
                     .value()) {
    fabric::NodeSettings settings;
    settings.reconnect_ms = 10;
    node_ = fabric::Node::create(process_->context(), process_->system(),
                                 {std::move(name), role, next_incarnation()}, settings)
                .value();
  }
  ~Peer() { node_->stop(std::chrono::milliseconds(0)); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// Waits until the link is up.
  fabric::LinkId link(const std::string& address, wire::NodeRole server) {
    const fabric::LinkId id = node_->connect(address, server).value();
    std::mutex mutex;
    std::condition_variable changed;
    bool is_up = false;
    auto shared = std::make_shared<std::function<void()>>([&] {
      const std::lock_guard lock(mutex);
      is_up = true;
      changed.notify_all();
    });
    node_->on_link([id, listener = std::weak_ptr(shared)](const fabric::LinkEvent& event) {
      if (const auto tell = listener.lock(); tell && event.up && event.link == id) (*tell)();
    });
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, kPatience, [&] { return is_up; })) << address;
    return id;
  }

  template <class Reply, class Handle, class Message>
  base::Result<Reply> ask(fabric::LinkId link, const char* actor, Message message) {
    caf::scoped_actor self{process_->system()};
    base::Result<Reply> result = base::fail(base::ErrorCode::kInternal, "nothing came");
    self->request(node_->remote<Handle>(link, actor), kPatience, std::move(message))
        .receive([&](const Reply& reply) { result = reply; },
                 [&](const caf::error& error) { result = base::fail(fabric::from_caf(error)); });
    return result;
  }

  fabric::Node& node() { return *node_; }
  caf::actor_system& system() { return process_->system(); }

 private:
  static std::uint64_t next_incarnation() {
    return fleet::incarnation_at(std::chrono::system_clock::now());
  }

  telemetry::Metrics metrics_;
  fleet::ProcessRef process_;
  std::unique_ptr<fabric::Node> node_;
};

/// A node that reports; a worker among them hosts at once what it is assigned.
class FakeMember {
 public:
  /// `model`: of which shape the experts are that a worker is assigned.
  FakeMember(const World& world, const std::string& name, wire::NodeRole role,
             const std::string& scheduler, const wire::ModelRecord& model)
      : peer_(world, name, role), model_(model) {
    state_.state = wire::NodeState::kReady;
    state_.address = "tcp://127.0.0.1:9";
    state_.memory_bytes = std::uint64_t{1} << 30;
    member_ = fleet::Member::join(peer_.node(), peer_.system(),
                                  {scheduler, std::chrono::milliseconds(200)},
                                  {[this] { return report(); },
                                   [this](wire::ReportReply reply) { apply(std::move(reply)); }},
                                  telemetry::Logger())
                  .value();
  }
  ~FakeMember() { member_.reset(); }
  FakeMember(const FakeMember&) = delete;
  FakeMember& operator=(const FakeMember&) = delete;

  struct View {
    wire::NodeReport report;
    std::optional<wire::Assignment> assignment;
    std::optional<wire::RoutingTable> table;
    std::optional<wire::Fleet> fleet;
    int assignments = 0;
  };
  /// What it is and has heard, as soon as that fits; nothing after kPatience.
  std::optional<View> wait(const std::function<bool(const View&)>& fits) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return fits(view()); })) return std::nullopt;
    return view();
  }

 private:
  [[nodiscard]] View view() const { return {state_, assignment_, table_, fleet_, assignments_}; }

  wire::NodeReport report() {
    const std::lock_guard lock(mutex_);
    return state_;
  }

  void apply(wire::ReportReply reply) {
    bool has_news = false;
    {
      const std::lock_guard lock(mutex_);
      has_news = !reply.assignments.empty() || !reply.tables.empty();
      if (!reply.assignments.empty()) {
        host(reply.assignments.front());
        assignment_ = std::move(reply.assignments.front());
      }
      if (!reply.tables.empty()) {
        state_.epoch_seen = reply.tables.front().epoch;
        table_ = std::move(reply.tables.front());
      }
      if (reply.fleet) fleet_ = std::move(reply.fleet);
    }
    changed_.notify_all();
    if (has_news && member_) member_->report_now();
  }

  void host(const wire::Assignment& assignment) {
    ++assignments_;
    state_.epoch_seen = assignment.epoch;
    wire::ExpertBits ready(model_.layers, model_.experts);
    for (const auto& expert : assignment.experts) ready.set(expert.layer, expert.index);
    state_.models = {{.model = assignment.model, .ready = std::move(ready)}};
  }

  Peer peer_;
  const wire::ModelRecord model_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  wire::NodeReport state_;
  std::optional<wire::Assignment> assignment_;
  std::optional<wire::RoutingTable> table_;
  std::optional<wire::Fleet> fleet_;
  int assignments_ = 0;
  std::unique_ptr<fleet::Member> member_;
};

}  // namespace conclave::test
