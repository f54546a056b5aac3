#include "conclave/testkit/fake_scheduler.hpp"

#include <caf/all.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"

namespace conclave::testkit {

namespace {

fabric::NodeSettings quick_settings() {
  fabric::NodeSettings settings;
  settings.reconnect_ms = 10;
  return settings;
}

}  // namespace

class FakeScheduler::Impl {
 public:
  Impl(fleet::Process& process, const std::string& address)
      : system_(process.system()),
        node_(fabric::Node::create(process.context(), process.system(),
                                   {"scheduler", wire::NodeRole::kScheduler, 1}, quick_settings())
                  .value()) {
    const auto actor =
        system_.spawn([this](fabric::FleetActor::pointer self) { return behavior(self); });
    actor_ = caf::actor_cast<caf::actor>(actor);
    node_->publish(fabric::kFleetActor, actor, fabric::Run::kScheduled);
    node_->on_link([this](const fabric::LinkEvent& event) { note(event); });
    address_ = listen(address);
  }

  ~Impl() {
    node_->stop(std::chrono::milliseconds(100));
    caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
    caf::scoped_actor self{system_};
    self->wait_for(actor_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }

  void publish(std::vector<wire::RoutingTable> tables) {
    {
      const std::lock_guard lock(mutex_);
      tables_ = std::move(tables);
    }
    nudge_all();
  }

  void assign(const std::string& worker, std::vector<wire::Assignment> assignments) {
    {
      const std::lock_guard lock(mutex_);
      assignments_[worker] = std::move(assignments);
    }
    nudge_all();
  }

  void set_lease(std::chrono::milliseconds lease) {
    const std::lock_guard lock(mutex_);
    lease_ = lease;
  }

  void hold(bool held) {
    {
      const std::lock_guard lock(mutex_);
      held_ = held;
    }
    if (!held) caf::anon_send(actor_, wire::FleetRequest{});
  }

  void nudge(const std::string& node) {
    fabric::LinkId link = 0;
    {
      std::unique_lock lock(mutex_);
      CONCLAVE_CHECK(linked_.wait_for(lock, kPatience, [&] { return links_.count(node) != 0; }));
      link = links_.at(node);
    }
    caf::anon_send(node_->remote<fabric::ReporterActor>(link, fabric::kReporterActor),
                   wire::Nudge{});
  }

  std::optional<wire::NodeReport> wait_report(
      const std::string& node, const std::function<bool(const wire::NodeReport&)>& fits) {
    return reports_.wait(
        [&](const wire::NodeReport& report) { return report.node == node && fits(report); });
  }

  [[nodiscard]] int reports() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  struct Waiting {
    caf::typed_response_promise<wire::ReportReply> promise;
    wire::NodeReport report;
  };

  // ZeroMQ gives an address free a little after the socket that had it is closed.
  std::string listen(const std::string& address) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    auto bound = node_->listen(address);
    while (!bound && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();
      bound = node_->listen(address);
    }
    return bound.value();
  }

  // On the lane's thread.
  void note(const fabric::LinkEvent& event) {
    const std::lock_guard lock(mutex_);
    if (event.up) {
      links_[event.peer.name] = event.link;
    } else if (links_[event.peer.name] == event.link) {
      links_.erase(event.peer.name);
    }
    linked_.notify_all();
  }

  void nudge_all() {
    std::map<std::string, fabric::LinkId> links;
    {
      const std::lock_guard lock(mutex_);
      links = links_;
    }
    for (const auto& [node, link] : links) {
      caf::anon_send(node_->remote<fabric::ReporterActor>(link, fabric::kReporterActor),
                     wire::Nudge{});
    }
  }

  fabric::FleetActor::behavior_type behavior(fabric::FleetActor::pointer self) {
    return {[this, self](const wire::NodeReport& report) {
              auto promise = self->make_response_promise<wire::ReportReply>();
              waiting_.push_back({promise, report});
              {
                const std::lock_guard lock(mutex_);
                ++count_;
              }
              reports_.add(report);
              answer();
              return promise;
            },
            [this](const wire::FleetRequest&) {  // of release()
              answer();
              return wire::Fleet{};
            }};
  }

  void answer() {
    const std::lock_guard lock(mutex_);
    if (held_) return;
    for (Waiting& waiting : waiting_) waiting.promise.deliver(reply_to(waiting.report));
    waiting_.clear();
  }

  wire::ReportReply reply_to(const wire::NodeReport& report) {
    wire::ReportReply reply;
    reply.lease_ms = static_cast<std::uint32_t>(lease_.count());
    const bool has_tables = report.role == wire::NodeRole::kRouter && !tables_.empty();
    if (has_tables && tables_.front().epoch > report.epoch_seen) {
      reply.tables = tables_;
      reply.epoch = tables_.front().epoch;
    }
    const auto assigned = assignments_.find(report.node);
    if (assigned != assignments_.end() && assigned->second.front().epoch > report.epoch_seen) {
      reply.assignments = assigned->second;
      reply.epoch = assigned->second.front().epoch;
    }
    return reply;
  }

  caf::actor_system& system_;
  std::unique_ptr<fabric::Node> node_;
  caf::actor actor_;
  std::string address_;
  std::vector<Waiting> waiting_;  // the actor's
  Events<wire::NodeReport> reports_;

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable linked_;
  std::map<std::string, fabric::LinkId> links_;  // that are up, by node
  std::vector<wire::RoutingTable> tables_;
  std::map<std::string, std::vector<wire::Assignment>> assignments_;
  std::chrono::milliseconds lease_{60'000};
  bool held_ = false;
  int count_ = 0;
};

FakeScheduler::FakeScheduler(fleet::Process& process, const std::string& address)
    : impl_(std::make_unique<Impl>(process, address)) {}
FakeScheduler::~FakeScheduler() = default;
const std::string& FakeScheduler::address() const { return impl_->address(); }
void FakeScheduler::publish(std::vector<wire::RoutingTable> tables) {
  impl_->publish(std::move(tables));
}
void FakeScheduler::assign(const std::string& worker, std::vector<wire::Assignment> assignments) {
  impl_->assign(worker, std::move(assignments));
}
void FakeScheduler::set_lease(std::chrono::milliseconds lease) { impl_->set_lease(lease); }
void FakeScheduler::hold() { impl_->hold(true); }
void FakeScheduler::release() { impl_->hold(false); }
void FakeScheduler::nudge(const std::string& node) { impl_->nudge(node); }
std::optional<wire::NodeReport> FakeScheduler::wait_report(
    const std::string& node, const std::function<bool(const wire::NodeReport&)>& fits) {
  return impl_->wait_report(node, fits);
}
int FakeScheduler::reports() const { return impl_->reports(); }

}  // namespace conclave::testkit
