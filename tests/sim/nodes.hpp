// The processes of a simulated fleet: the real cores of scheduler and dispatch, and models of what
// surrounds them.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conclave/dispatch/layer_dispatch.hpp"
#include "conclave/fleet/scheduler_choice.hpp"
#include "conclave/wire/placement.hpp"
#include "conclave/wire/registry.hpp"
#include "leadership.hpp"
#include "network.hpp"
#include "scheduler_core.hpp"

namespace conclave::sim {

class World;

/// The part of the registry that lends the lead, and keeps what goes with it. It does not die, but
/// it may be out of reach.
class Registry final : public Process {
 public:
  explicit Registry(Loop& loop) : Process(loop) { begin_life(); }

  wire::LeaseReply lease(const std::string& holder, Duration ttl);
  void put(std::uint64_t token, std::string kept);
  [[nodiscard]] const std::string& kept() const { return kept_; }

 private:
  std::string holder_;
  std::uint64_t token_ = 0;
  Time until_{};
  std::string kept_;
};

/// A scheduler's process: SchedulerCore, its ticks, and the registry that it asks. Where there are
/// several it leads only with the lease.
class Scheduler final : public Process {
 public:
  Scheduler(World& world, NodeIndex index, std::string address);

  [[nodiscard]] NodeIndex index() const { return index_; }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] bool leads() const { return core_ != nullptr; }

  void start();
  void kill();
  /// Ends right after it has handled so many more messages and sent what came of them; back soon.
  void die_after(std::uint64_t messages) { dies_at_ = handled_ + messages; }
  [[nodiscard]] std::uint64_t handled() const { return handled_; }
  [[nodiscard]] const scheduler::SchedulerCore* core() const { return core_.get(); }

  void on_report(NodeIndex from, std::uint64_t request, const wire::NodeReport& report);

 private:
  void begin_lead(const std::string& kept);
  void ask_for_lead();
  void hear(const wire::LeaseReply& reply, const std::string& kept, Time asked);
  void changed(scheduler::Leadership::Change change, const std::string& kept);
  void keep();
  void tick();
  void send_nudges();
  void tell_links(bool up);

  World& world_;
  const NodeIndex index_;
  const std::string address_;
  std::optional<scheduler::Leadership> lead_;  // if there are several
  Time leased_until_{};                        // as it knows
  std::uint64_t leads_begun_ = 0;
  std::uint64_t kept_change_ = 0;
  std::unique_ptr<scheduler::SchedulerCore> core_;  // null: it does not lead
  std::uint64_t handled_ = 0;
  std::uint64_t dies_at_ = UINT64_MAX;
};

/// A node's place in the fleet, as fleet::Member: one report at a time, again once a second (ten
/// times while it is not ready), when nudged, when something changed and when the link comes anew.
class Reporter : public Process {
 public:
  Reporter(World& world, NodeIndex index, std::string name);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] NodeIndex index() const { return index_; }
  [[nodiscard]] std::uint64_t incarnation() const { return incarnation_; }
  [[nodiscard]] Time in_touch() const { return in_touch_; }

  /// Which scheduler it follows, and the greatest term that it has taken anything of.
  [[nodiscard]] std::size_t followed() const { return choice_.current(); }
  [[nodiscard]] std::uint64_t term() const { return choice_.term(); }

  void on_nudge() { report_now(); }
  /// The link to a scheduler broke, or is there anew.
  void on_link(std::size_t scheduler, bool up);
  /// Request 0: it was asked in passing. No reply: it does not lead, and knows nobody who does.
  void on_reply(std::size_t scheduler, std::uint64_t request,
                const std::optional<wire::ReportReply>& reply);
  virtual void kill();

 protected:
  void start_reporting();
  void report_now();
  [[nodiscard]] virtual wire::NodeReport report() const = 0;
  virtual void apply(const wire::ReportReply& reply) = 0;

  World& world_;

 private:
  void send();
  void send_to(std::size_t scheduler, std::uint64_t request);
  void beat();

  const NodeIndex index_;
  const std::string name_;
  fleet::SchedulerChoice choice_;
  std::uint64_t incarnation_ = 0;
  std::uint64_t request_ = 0;  // the newest
  bool under_way_ = false;
  bool again_ = false;
  bool is_ready_ = false;  // as last reported
  Time in_touch_{};
};

/// Loads what it is told, one expert after the other, and computes one call after the other.
class Worker final : public Reporter {
 public:
  Worker(World& world, NodeIndex index, std::string name);

  void start();
  void kill() override;
  void drain();
  [[nodiscard]] bool is_draining() const { return draining_; }
  void slow_down(double factor) { factor_ = factor; }

  [[nodiscard]] bool hosts(std::uint32_t version, std::uint32_t layer, std::uint32_t expert) const;
  [[nodiscard]] bool has_loaded() const { return wanted_.empty(); }

  struct Call {
    std::uint32_t version = 0;
    std::uint32_t layer = 0;
    std::vector<std::uint32_t> experts;
    std::size_t pairs = 0;
  };
  void on_call(NodeIndex router, std::uint64_t id, const Call& call);

 private:
  [[nodiscard]] wire::NodeReport report() const override;
  void apply(const wire::ReportReply& reply) override;
  void drop_unlisted(std::uint32_t version, const wire::ExpertBits& listed);
  void load_next();

  struct Hosted {
    wire::ModelVersion model;
    wire::ExpertBits ready;
  };
  std::map<std::uint32_t, Hosted> hosted_;  // by version
  std::deque<std::pair<std::uint32_t, wire::AssignedExpert>> wanted_;
  std::uint64_t epoch_seen_ = 0;
  bool loading_ = false;
  bool draining_ = false;
  double factor_ = 1;
  Time busy_until_{};
};

/// Runs one request after the other, layer by layer, through dispatch's core. It has the tables of
/// all versions; its requests are for one of them.
class Router final : public Reporter {
 public:
  Router(World& world, NodeIndex index, std::string name, std::uint32_t version);

  void start();
  /// Takes up no further request.
  void finish() { finishing_ = true; }

  /// Null: it has none of that version.
  [[nodiscard]] const wire::RoutingTable* table(std::uint32_t version) const;
  [[nodiscard]] std::uint64_t requests() const { return requests_; }
  [[nodiscard]] bool is_idle() const { return idle_; }
  /// ... since the last forget_longest().
  [[nodiscard]] Duration longest_layer() const { return longest_layer_; }
  void forget_longest() { longest_layer_ = {}; }
  [[nodiscard]] std::uint64_t refusals() const { return refusals_; }
  [[nodiscard]] const dispatch::DispatchStats& stats() const { return core_.stats(); }

  void on_answer(std::uint64_t call, bool ok, const wire::ExpertReply& reply);
  /// The link to a worker's incarnation dropped.
  void on_link_lost(const std::string& worker, std::uint64_t incarnation);

 private:
  using Endpoint = std::pair<std::string, std::uint64_t>;  // node and incarnation
  struct Call {
    Endpoint to;
    std::uint64_t run = 0;
    std::vector<std::uint32_t> experts;
  };

  [[nodiscard]] wire::NodeReport report() const override;
  void apply(const wire::ReportReply& reply) override;
  void connect(const Endpoint& endpoint);
  void watch(const Endpoint& endpoint);
  [[nodiscard]] std::optional<std::size_t> index_of(const Endpoint& endpoint) const;
  void next_request();
  void next_layer();
  void pump();
  void send(const dispatch::Order& order);
  void layer_done();

  const std::uint32_t version_;                                                // of its requests
  std::uint64_t epoch_ = 0;                                                    // of all tables
  std::map<std::uint32_t, std::shared_ptr<const wire::RoutingTable>> tables_;  // by version
  std::shared_ptr<const wire::RoutingTable> table_;                            // of version_
  dispatch::LayerDispatch core_;
  std::map<Endpoint, bool> links_;  // of the table's workers: up
  std::map<std::uint64_t, Call> calls_;
  std::uint64_t run_ = 0;  // number of the layer at hand, of all
  std::uint64_t wake_ = 0;
  std::map<std::uint32_t, int> answers_;  // by expert, of the layer at hand
  std::uint32_t layer_ = 0;
  std::uint32_t tokens_left_ = 0;
  bool in_layer_ = false;
  bool idle_ = true;
  bool finishing_ = false;
  std::uint64_t requests_ = 0;
  Time layer_began_{};
  Duration longest_layer_{};
  std::uint64_t refusals_ = 0;
};

}  // namespace conclave::sim
