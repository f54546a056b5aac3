// For tests: a scheduler and routers that do what the test says, in the gateway's own process,
// reached over real links. Everything waits for what happens, never for a time.
#pragma once

#include <atomic>
#include <caf/all.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/fleet/process.hpp"

namespace conclave::gateway::testing {

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
    changed_.wait_for(lock, kPatience, [&] { return take(fits, found); });
    return found;
  }
  std::optional<T> wait() {
    return wait([](const T&) { return true; });
  }
  /// The first that fits and is there already.
  std::optional<T> poll(const std::function<bool(const T&)>& fits) {
    const std::lock_guard lock(mutex_);
    std::optional<T> found;
    take(fits, found);
    return found;
  }

 private:
  bool take(const std::function<bool(const T&)>& fits, std::optional<T>& found) {
    while (!found && !events_.empty()) {
      if (fits(events_.front())) found = std::move(events_.front());
      events_.pop_front();
    }
    return found.has_value();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> events_;
};

/// A node with one published actor.
class FakeNode {
 public:
  FakeNode(fleet::Process& process, const std::string& name, wire::NodeRole role)
      : process_(process),
        address_("inproc://" + name),
        node_(fabric::Node::create(process.context(), process.system(), {name, role, 1}, {})
                  .value()) {}
  ~FakeNode() { stop(); }
  FakeNode(const FakeNode&) = delete;
  FakeNode& operator=(const FakeNode&) = delete;

  void serve(const char* name, caf::actor actor) {
    actor_ = std::move(actor);
    node_->publish(name, actor_, fabric::Run::kScheduled);
    (void)node_->listen(address_).value();
  }
  void stop() {
    if (!node_) return;
    node_->stop(std::chrono::milliseconds(200));
    caf::scoped_actor self{process_.system()};
    caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
    self->wait_for(actor_);
    actor_ = caf::actor();
    node_.reset();
  }

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] fabric::Node& node() { return *node_; }
  [[nodiscard]] fleet::Process& process() { return process_; }

 private:
  fleet::Process& process_;
  const std::string address_;
  std::unique_ptr<fabric::Node> node_;
  caf::actor actor_;
};

/// Answers every report with the fleet that the test set.
class FakeScheduler {
 public:
  explicit FakeScheduler(fleet::Process& process)
      : node_(process, "scheduler", wire::NodeRole::kScheduler) {
    const fabric::FleetActor actor =
        process.system().spawn([this]() -> fabric::FleetActor::behavior_type {
          return {[this](const wire::NodeReport& report) {
                    wire::ReportReply reply;
                    reply.lease_ms = 60'000;
                    {
                      const std::lock_guard lock(mutex_);
                      reply.fleet = fleet_;
                    }
                    reports.add(report);
                    return reply;
                  },
                  [](const wire::FleetRequest&) { return wire::Fleet{}; }};
        });
    node_.serve(fabric::kFleetActor, caf::actor_cast<caf::actor>(actor));
  }

  void set(wire::Fleet fleet) {
    const std::lock_guard lock(mutex_);
    fleet_ = std::move(fleet);
  }
  /// Waits for a report with this state.
  std::optional<wire::NodeReport> wait(wire::NodeState state) {
    return reports.wait([state](const wire::NodeReport& report) { return report.state == state; });
  }
  [[nodiscard]] const std::string& address() const { return node_.address(); }

  Events<wire::NodeReport> reports;

 private:
  std::mutex mutex_;  // guards fleet_
  wire::Fleet fleet_;
  FakeNode node_;
};

/// Knows every key as one that reads, and answers administration with its name. Refuses the first
/// batches of usage for good, as many as the test says; answers nothing while it is `away`.
class FakeRegistry {
 public:
  FakeRegistry(fleet::Process& process, const std::string& name, unsigned refuses = 0)
      : refuses_(refuses), node_(process, name, wire::NodeRole::kRegistry) {
    const fabric::AdminActor admin =
        process.system().spawn([this, name]() -> fabric::AdminActor::behavior_type {
          return {[this, name](const wire::AdminRequest&) -> caf::result<wire::AdminReply> {
            if (away) return away_error();
            wire::AdminReply reply;
            reply.status = 200;
            reply.body = R"({"from":")" + name + R"("})";
            return reply;
          }};
        });
    admin_ = caf::actor_cast<caf::actor>(admin);
    node_.node().publish(fabric::kAdminActor, admin_, fabric::Run::kScheduled);
    const fabric::LedgerActor ledger =
        process.system().spawn([this]() -> fabric::LedgerActor::behavior_type {
          return {[this](const wire::KeyQuestion&) -> caf::result<wire::KeyAnswer> {
                    if (away) return away_error();
                    wire::KeyAnswer answer;
                    answer.valid = true;
                    answer.subject = {"acme", "key-1", wire::AccessRole::kAdmin};
                    answer.quota.requests_per_minute = requests_per_minute;
                    return answer;
                  },
                  [this](const wire::UsageBatch& batch) -> caf::result<wire::Recorded> {
                    batches.add(batch);
                    if (refuses_ > 0) {
                      --refuses_;
                      return fabric::to_caf({base::ErrorCode::kInvalidArgument, "model: no name"});
                    }
                    return wire::Recorded{true};
                  },
                  [](const wire::LeaseRequest&) { return wire::LeaseReply{}; },
                  [](const wire::StateRequest&) { return wire::StateReply{}; },
                  [](const wire::AuditEvent&) { return wire::Recorded{true}; }};
        });
    node_.serve(fabric::kLedgerActor, caf::actor_cast<caf::actor>(ledger));
  }
  ~FakeRegistry() {
    node_.stop();
    caf::anon_send_exit(admin_, caf::exit_reason::user_shutdown);
  }

  [[nodiscard]] const std::string& address() const { return node_.address(); }

  std::atomic<bool> away{false};
  std::atomic<std::uint64_t> requests_per_minute{0};  // of every key's tenant
  Events<wire::UsageBatch> batches;                   // that it got

 private:
  static caf::error away_error() {
    return fabric::to_caf({base::ErrorCode::kUnavailable, "the database is away"});
  }

  unsigned refuses_;  // the ledger's own, once it runs
  FakeNode node_;
  caf::actor admin_;
};

/// Takes every stream, except those whose text is `refuse` or `full`; says what the test says.
class FakeRouter {
 public:
  struct Got {
    FakeRouter* router = nullptr;
    wire::Generate request;
  };

  /// Routers may share `requests`.
  FakeRouter(fleet::Process& process, const std::string& name, Events<Got>& requests)
      : name_(name), node_(process, name, wire::NodeRole::kRouter) {
    const fabric::InferenceActor actor = process.system().spawn(
        [this,
         &requests](fabric::InferenceActor::pointer self) -> fabric::InferenceActor::behavior_type {
          return {[this, &requests,
                   self](const wire::Generate& request) -> caf::result<wire::Accepted> {
                    if (request.text == "refuse") {
                      return fabric::to_caf({base::ErrorCode::kInvalidArgument,
                                             "9 prompt tokens and 1 new ones exceed the context "
                                             "of 8 tokens"});
                    }
                    if (request.text == "full") {
                      return fabric::to_caf({base::ErrorCode::kOverloaded, "the queue is full"});
                    }
                    // Before the test hears of it: events follow the acceptance.
                    auto promise = self->make_response_promise<wire::Accepted>();
                    promise.deliver(wire::Accepted{4});
                    requests.add({this, request});
                    return promise;
                  },
                  [this](const wire::CancelStream& cancel) { cancels.add(cancel); },
                  [](const wire::TokenizeRequest& request) {
                    return wire::TokenizeReply{{1, 2}, {request.model, request.text}, 128};
                  },
                  [](const wire::DetokenizeRequest& request) -> caf::result<wire::DetokenizeReply> {
                    if (request.tokens.empty()) {
                      return fabric::to_caf({base::ErrorCode::kInvalidArgument, "no tokens"});
                    }
                    return wire::DetokenizeReply{"text"};
                  }};
        });
    node_.serve(fabric::kInferenceActor, caf::actor_cast<caf::actor>(actor));
  }

  /// Says this about a stream of a request that it got.
  void say(const wire::Generate& request, std::vector<wire::TokenEvent> tokens) {
    wire::TokenEvents events;
    events.streams.push_back({.stream = request.stream, .tokens = std::move(tokens)});
    caf::scoped_actor self{node_.process().system()};
    self->send(node_.node().remote<fabric::StreamsActor>(node_.node().find(request.gateway),
                                                         fabric::kStreamsActor),
               std::move(events));
  }
  void stop() { node_.stop(); }

  /// As the scheduler lists it.
  [[nodiscard]] wire::NodeStatus status() const {
    wire::NodeStatus status;
    status.report.node = name_;
    status.report.role = wire::NodeRole::kRouter;
    status.report.state = wire::NodeState::kReady;
    status.report.address = node_.address();
    status.report.models = {{.model = {"demo", 1, "/m.gguf", std::string(64, 'a')}}};
    return status;
  }

  Events<wire::CancelStream> cancels;

 private:
  const std::string name_;
  FakeNode node_;
};

}  // namespace conclave::gateway::testing
