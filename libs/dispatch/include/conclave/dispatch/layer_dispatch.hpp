// Who computes the experts of the layers at hand, one for each micro-batch: which workers are asked
// for what, when another one is asked as well or instead, and whose answers count. Decides only: it
// has no sockets, no clock and sees no numbers, so that a simulation drives it as RemoteExperts
// does.
//
// One layer goes so:
//
//   begin(layer, work)
//   until done():
//     for each order of plan(now): send it, then sent() or not_sent()
//     wait for links and answers until next(now); tell link(), answered(), refused(), failed()
//
// Another micro-batch may begin its own meanwhile. Orders and deadlines are those of all.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/dispatch/latency_book.hpp"
#include "conclave/dispatch/replica_chooser.hpp"
#include "conclave/dispatch/worker_health.hpp"
#include "conclave/model/expert_backend.hpp"
#include "conclave/wire/expert.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::dispatch {

struct DispatchOptions {
  using Duration = std::chrono::nanoseconds;
  /// Bounds of a call's deadline, which is three times what 99 % of calls of its size took, at most
  /// 20 ms or a half beyond that, and
  /// twice as long for each time that the layer asked again.
  Duration resend_min = std::chrono::milliseconds(10);
  Duration resend_max = std::chrono::milliseconds(1000);  // also while nothing is known
  double hedges_per_call = 0.02;  // calls that may be sent twice, as a share of all; 0: none
  HealthOptions health;
};

/// An expert with rows in the layer at hand.
struct ExpertWork {
  std::uint32_t expert = 0;
  std::size_t pairs = 0;
};

/// A call to send now.
struct Order {
  std::size_t batch = 0;
  std::size_t worker = 0;              // index into the table's workers
  std::vector<std::uint32_t> experts;  // rising
  std::size_t pairs = 0;
  bool hedge = false;  // all of it is asked of others already
};

/// One expert of an answer.
struct AnswerPart {
  std::uint32_t expert = 0;
  bool counts = false;  // false: another answer was there first, or this one came too late
};

struct DispatchStats {
  std::uint64_t resends = 0;  // calls that were not answered, or not in time, and went elsewhere
  std::uint64_t hedges = 0;
  std::uint64_t late = 0;      // answers of which nothing counted
  std::uint64_t suspects = 0;  // deadlines that passed
  double device_us = 0;        // that workers computed for answers that counted, by their pairs'
                               // share of what was computed together
};

/// One thread. Calls under way are bounded by what the links take.
///
/// A call owns its experts until it is answered, fails, or its deadline passes while somebody in
/// good standing could compute them too. From then on what it says is not used, but it is waited
/// for all the same: it tells that the worker lives, and how long it took. Without anybody else
/// the call keeps its experts and is waited for, since asking anew would take longer still.
class LayerDispatch {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using CallId = std::uint64_t;

  /// Of a model with so many experts a layer; all tables must be of its shape.
  LayerDispatch(std::uint32_t experts, const DispatchOptions& options, std::uint64_t seed);

  // ---- workers ----

  /// Takes a table, at any time. Workers that stay (equal endpoints) keep what is known of them and
  /// their calls; calls of the others are forgotten, and their experts wait. Returns for each
  /// worker of the new table its index in the former one. New workers have no link yet.
  std::vector<std::optional<std::size_t>> apply(std::shared_ptr<const wire::RoutingTable> table);
  [[nodiscard]] const wire::RoutingTable* table() const { return table_.get(); }
  /// The calls of a link that goes down must also be told as failed().
  void link(std::size_t worker, bool up, TimePoint now);
  /// True if some worker of the expert has a link that is up.
  [[nodiscard]] bool is_linked(std::uint32_t layer, std::uint32_t expert) const;
  [[nodiscard]] const WorkerHealth& health(std::size_t worker) const {
    return workers_[worker].health;
  }

  // ---- the layers at hand, by micro-batch (below model::kMicroBatchesMax) ----

  /// `work`: each expert once. Calls of the micro-batch's layer before are disowned.
  void begin(std::uint32_t layer, std::span<const ExpertWork> work, std::size_t batch = 0);
  /// What to send now. Each order must be told as sent() or not_sent() before the next plan().
  std::span<const Order> plan(TimePoint now);
  void sent(const Order& order, CallId call, TimePoint now);
  /// The link did not take it.
  void not_sent(const Order& order, TimePoint now);
  /// When plan() may have something new at the latest, if nothing else happens.
  [[nodiscard]] TimePoint next(TimePoint now) const;

  /// What of an answer counts, in the order of the call's experts; empty: nothing. Valid until the
  /// next call of a member.
  std::span<const AnswerPart> answered(CallId call, const wire::ExpertReply& reply, TimePoint now);
  /// The worker will not compute it, for now.
  void refused(CallId call, TimePoint now);
  /// No answer will come. `silent`: the worker had all the time that a call may take.
  void failed(CallId call, bool silent, TimePoint now);

  [[nodiscard]] bool done(std::size_t batch = 0) const { return layers_[batch].missing == 0; }
  /// Some expert waits for a worker, and nothing is under way.
  [[nodiscard]] bool is_stalled(std::size_t batch = 0) const;
  /// Experts that nobody computes now.
  [[nodiscard]] std::vector<std::uint32_t> waiting(std::size_t batch = 0) const;
  /// The index of the call's worker; nothing if the call is not known (any more).
  [[nodiscard]] std::optional<std::size_t> worker_of(CallId call) const;
  /// Something was sent and has not ended.
  [[nodiscard]] bool has_calls() const { return !calls_.empty(); }
  /// Of a call that is known.
  [[nodiscard]] std::size_t batch_of(CallId call) const;
  /// Gives the layer up.
  void abandon(std::size_t batch = 0);

  [[nodiscard]] const DispatchStats& stats() const { return stats_; }

 private:
  static constexpr std::size_t kNobody = ~std::size_t{0};

  struct Worker {
    WorkerHealth health;
    Order order;              // that is being made up
    std::size_t planned = 0;  // units of this plan()
  };
  struct Call {
    CallId id = 0;
    std::size_t batch = 0;
    std::size_t worker = 0;
    std::size_t units = 0;
    std::size_t pairs = 0;
    TimePoint sent_at{};
    TimePoint deadline{};
    TimePoint hedge_at{};
    DispatchOptions::Duration patience{};
    bool missed = false;
    bool hedged = false;
    std::vector<AnswerPart> parts;  // `counts`: it owns the expert; none once it is disowned
  };
  struct Waiting {
    std::uint32_t expert = 0;
    std::size_t not_by = kNobody;  // a hedge: not by whom it is asked of already
    std::size_t choices = 0;       // workers of its pool, while it is assigned
  };
  using Calls = std::vector<Call>;
  struct Layer {
    std::uint32_t layer = 0;
    std::size_t missing = 0;            // experts without an answer
    std::uint32_t attempts = 0;         // deadlines that passed in this layer
    std::vector<std::size_t> pairs;     // by expert; 0: not of this layer, or answered
    std::vector<std::uint32_t> owners;  // by expert: calls that own it
    std::vector<Waiting> waiting;
  };

  void expire(TimePoint now);
  void miss(Call& call, TimePoint now);
  void hedge(Call& call, TimePoint now);
  void assign(std::size_t batch, TimePoint now);
  [[nodiscard]] std::size_t choose(const Layer& layer, const Waiting& waiting, TimePoint now);
  /// Somebody in good standing, but `not_by`, could compute it now.
  [[nodiscard]] bool has_other(const Layer& layer, std::uint32_t expert, std::size_t not_by,
                               TimePoint now) const;
  [[nodiscard]] bool owns_any(const Call& call) const;
  static void wait_again(Layer& layer, std::uint32_t expert);
  void disown(Call& call);
  void end(Calls::iterator call);
  Calls::iterator find(CallId call);
  [[nodiscard]] Calls::const_iterator find(CallId call) const;
  [[nodiscard]] std::optional<DispatchOptions::Duration> quantile(const Worker& worker,
                                                                  std::size_t units,
                                                                  double q) const;
  [[nodiscard]] DispatchOptions::Duration patience(const Call& call) const;

  const std::uint32_t experts_;
  const DispatchOptions options_;
  ReplicaChooser chooser_;
  WorkerHealth fleet_;  // as if all were one: what to expect of those that are new
  std::shared_ptr<const wire::RoutingTable> table_;
  std::vector<Worker> workers_;  // as table_->workers
  Calls calls_;
  double hedges_left_ = 0.0;
  DispatchStats stats_;

  std::array<Layer, model::kMicroBatchesMax> layers_;  // by micro-batch

  std::vector<Order> orders_;  // the last plan()
  std::vector<AnswerPart> answer_;
  std::vector<Candidate> candidates_;
  std::vector<std::size_t> candidate_workers_;
};

}  // namespace conclave::dispatch
