#include "conclave/dispatch/layer_dispatch.hpp"

#include <algorithm>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::dispatch {

namespace {

// A deadline is this many times what this share of calls took: far enough out that a worker which
// is only busy is not suspected, near enough that a reader does not see it. Where calls take long,
// as many streams share few processors, it is so much beyond that share, or a half.
constexpr double kDeadlineShare = 0.99;
constexpr int kDeadlineTimes = 3;
constexpr auto kDeadlineBeyond = std::chrono::milliseconds(20);
// Whoever takes longer than this share of calls may be asked twice (The Tail at Scale, Dean 2013).
constexpr double kHedgeShare = 0.95;
// Hedges that calls save up for a bad moment.
constexpr double kHedgesMax = 10.0;
// Doublings of a deadline.
constexpr std::uint32_t kAttemptsMax = 10;

}  // namespace

LayerDispatch::LayerDispatch(std::uint32_t experts, const DispatchOptions& options,
                             std::uint64_t seed)
    : experts_(experts), options_(options), chooser_(seed), fleet_(options.health) {
  for (Layer& layer : layers_) {
    layer.pairs.assign(experts, 0);
    layer.owners.assign(experts, 0);
  }
}

// ---- workers ----

std::vector<std::optional<std::size_t>> LayerDispatch::apply(
    std::shared_ptr<const wire::RoutingTable> table) {
  CONCLAVE_CHECK(table->experts == experts_);
  std::vector<std::optional<std::size_t>> former(table->workers.size());
  std::vector<std::size_t> now_at(workers_.size(), kNobody);
  std::vector<Worker> workers;
  workers.reserve(former.size());
  for (std::size_t i = 0; i < former.size(); ++i) {
    for (std::size_t old = 0; old < workers_.size() && !former[i]; ++old) {
      if (now_at[old] != kNobody || table_->workers[old] != table->workers[i]) continue;
      former[i] = old;
      now_at[old] = i;
    }
    workers.push_back(former[i] ? std::move(workers_[*former[i]])
                                : Worker{WorkerHealth(options_.health), {}, 0});
  }
  table_ = std::move(table);
  workers_ = std::move(workers);
  std::vector<Call> gone;
  for (Call& call : calls_) {
    call.worker = now_at[call.worker];
    if (call.worker == kNobody) gone.push_back(std::move(call));
  }
  std::erase_if(calls_, [](const Call& call) { return call.worker == kNobody; });
  for (Layer& layer : layers_) {
    for (Waiting& waiting : layer.waiting) {
      if (waiting.not_by != kNobody) waiting.not_by = now_at[waiting.not_by];
    }
  }
  for (Call& call : gone) disown(call);
  return former;
}

void LayerDispatch::link(std::size_t worker, bool up, TimePoint now) {
  if (up) {
    workers_[worker].health.link_up(now);
  } else {
    workers_[worker].health.link_down();
  }
}

bool LayerDispatch::is_linked(std::uint32_t layer, std::uint32_t expert) const {
  return table_ && std::ranges::any_of(table_->pool_of(layer, expert), [this](std::uint16_t index) {
           return workers_[index].health.is_up();
         });
}

// ---- the layers at hand ----

void LayerDispatch::begin(std::uint32_t index, std::span<const ExpertWork> work,
                          std::size_t batch) {
  abandon(batch);
  Layer& layer = layers_[batch];
  layer.layer = index;
  layer.attempts = 0;
  for (const ExpertWork& one : work) {
    layer.pairs[one.expert] = one.pairs;
    layer.waiting.push_back({one.expert, kNobody});
  }
  layer.missing = work.size();
}

void LayerDispatch::abandon(std::size_t batch) {
  for (Call& call : calls_) {
    if (call.batch == batch) call.parts.clear();
  }
  Layer& layer = layers_[batch];
  std::ranges::fill(layer.pairs, 0u);
  std::ranges::fill(layer.owners, 0u);
  layer.waiting.clear();
  layer.missing = 0;
}

std::span<const Order> LayerDispatch::plan(TimePoint now) {
  orders_.clear();
  if (std::ranges::all_of(layers_, [](const Layer& layer) { return layer.missing == 0; })) {
    return orders_;
  }
  expire(now);
  for (std::size_t batch = 0; batch < layers_.size() && table_; ++batch) {
    if (!layers_[batch].waiting.empty()) assign(batch, now);
  }
  for (Worker& worker : workers_) worker.planned = 0;
  return orders_;
}

// Also calls that own nothing any more, as a hedge was faster: whoever stopped must be found out.
void LayerDispatch::expire(TimePoint now) {
  for (Call& call : calls_) {
    if (now >= call.deadline) {
      miss(call, now);
    } else if (!call.parts.empty() && now >= call.hedge_at && !std::exchange(call.hedged, true)) {
      hedge(call, now);
    }
  }
}

void LayerDispatch::miss(Call& call, TimePoint now) {
  Layer& layer = layers_[call.batch];
  if (!std::exchange(call.missed, true)) {
    workers_[call.worker].health.missed(now);
    ++stats_.suspects;
    if (!call.parts.empty()) layer.attempts = std::min(layer.attempts + 1, kAttemptsMax);
  }
  bool moved = false;
  for (AnswerPart& part : call.parts) {
    if (!part.counts || !has_other(layer, part.expert, call.worker, now)) continue;
    part.counts = false;
    --layer.owners[part.expert];
    wait_again(layer, part.expert);
    moved = true;
  }
  if (moved) ++stats_.resends;
  if (!owns_any(call)) {
    call.parts.clear();
  } else {
    call.patience *= 2;
    call.deadline = now + call.patience;
  }
}

void LayerDispatch::hedge(Call& call, TimePoint now) {
  if (hedges_left_ < 1.0) return;
  Layer& layer = layers_[call.batch];
  bool any = false;
  for (const AnswerPart& part : call.parts) {
    const bool alone =
        part.counts && layer.pairs[part.expert] > 0 && layer.owners[part.expert] == 1;
    if (!alone || !has_other(layer, part.expert, call.worker, now)) continue;
    layer.waiting.push_back({part.expert, call.worker});
    any = true;
  }
  if (any) hedges_left_ -= 1.0;
}

bool LayerDispatch::has_other(const Layer& layer, std::uint32_t expert, std::size_t not_by,
                              TimePoint now) const {
  return std::ranges::any_of(table_->pool_of(layer.layer, expert), [&](std::uint16_t index) {
    const WorkerHealth& health = workers_[index].health;
    return index != not_by && health.is_up() && !health.pauses(now) &&
           health.standing(now) == Standing::kWell;
  });
}

// Experts with the fewest workers to choose from first, then those with the most to compute.
void LayerDispatch::assign(std::size_t batch, TimePoint now) {
  Layer& layer = layers_[batch];
  if (workers_.size() > 1) {
    for (Waiting& waiting : layer.waiting) {
      waiting.choices = table_->pool_of(layer.layer, waiting.expert).size();
    }
    std::ranges::stable_sort(layer.waiting, {}, [&](const Waiting& waiting) {
      return std::pair(waiting.choices, ~units_of(1, layer.pairs[waiting.expert]));
    });
  }
  std::erase_if(layer.waiting, [&](const Waiting& waiting) {
    const bool hedges = waiting.not_by != kNobody;
    const std::size_t chosen = choose(layer, waiting, now);
    if (chosen == kNobody) return hedges;
    Worker& worker = workers_[chosen];
    // Only a hedge can be about what an order has already.
    if (hedges &&
        std::ranges::find(worker.order.experts, waiting.expert) != worker.order.experts.end()) {
      return true;
    }
    worker.order.hedge = hedges && (worker.order.hedge || worker.order.experts.empty());
    worker.order.experts.push_back(waiting.expert);
    worker.order.pairs += layer.pairs[waiting.expert];
    worker.planned += units_of(1, layer.pairs[waiting.expert]);
    return true;
  });
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (worker.order.experts.empty()) continue;
    worker.order.batch = batch;
    worker.order.worker = i;
    std::ranges::sort(worker.order.experts);
    orders_.push_back(std::exchange(worker.order, {}));
  }
}

std::size_t LayerDispatch::choose(const Layer& layer, const Waiting& waiting, TimePoint now) {
  const auto pool = table_->pool_of(layer.layer, waiting.expert);
  const auto may_be = [&](std::uint16_t index) {
    const WorkerHealth& health = workers_[index].health;
    return index != waiting.not_by && health.is_up() && !health.pauses(now);
  };
  if (pool.size() == 1) return may_be(pool[0]) ? pool[0] : kNobody;
  candidates_.clear();
  candidate_workers_.clear();
  for (const std::uint16_t index : pool) {
    if (!may_be(index)) continue;
    const Worker& worker = workers_[index];
    const WorkerHealth& health = worker.health;
    const WorkerHealth& speed = health.us_per_unit(now) > 0.0 ? health : fleet_;
    candidates_.push_back({health.standing(now), health.outstanding() + worker.planned,
                           speed.us_per_unit(now), speed.overhead_us(now), health.reluctance(now),
                           !worker.order.experts.empty()});
    candidate_workers_.push_back(index);
  }
  if (candidates_.empty()) return kNobody;
  return candidate_workers_[chooser_.choose(candidates_, units_of(1, layer.pairs[waiting.expert]))];
}

void LayerDispatch::sent(const Order& order, CallId id, TimePoint now) {
  Worker& worker = workers_[order.worker];
  Call& call = calls_.emplace_back();
  call.id = id;
  call.batch = order.batch;
  call.worker = order.worker;
  call.units = units_of(order.experts.size(), order.pairs);
  call.pairs = order.pairs;
  call.sent_at = now;
  call.patience = patience(call);
  call.deadline = now + call.patience;
  call.hedge_at = TimePoint::max();
  for (const std::uint32_t expert : order.experts) {
    call.parts.push_back({expert, true});
    ++layers_[order.batch].owners[expert];
  }
  worker.health.sent(call.units);
  if (order.hedge) {
    ++stats_.hedges;
  } else if (options_.hedges_per_call > 0.0) {
    hedges_left_ = std::min(kHedgesMax, hedges_left_ + options_.hedges_per_call);
    if (const auto slow = quantile(worker, call.units, kHedgeShare)) call.hedge_at = now + *slow;
  }
}

void LayerDispatch::not_sent(const Order& order, TimePoint now) {
  workers_[order.worker].health.refused(now);
  for (const std::uint32_t expert : order.experts) wait_again(layers_[order.batch], expert);
}

LayerDispatch::TimePoint LayerDispatch::next(TimePoint now) const {
  TimePoint next = now + options_.resend_max;
  for (const Layer& layer : layers_) {
    if (!layer.waiting.empty()) next = std::min(next, now + options_.health.pause);
    // Whoever took no call just now pauses; others need not.
    for (const Waiting& waiting : layer.waiting) {
      if (!table_) break;
      for (const std::uint16_t index : table_->pool_of(layer.layer, waiting.expert)) {
        const WorkerHealth& health = workers_[index].health;
        if (health.is_up()) next = std::min(next, std::max(now, health.pause_until()));
      }
    }
  }
  for (const Call& call : calls_) {
    if (call.parts.empty()) continue;
    next = std::min(next, call.deadline);
    if (!call.hedged) next = std::min(next, call.hedge_at);
  }
  return next;
}

std::span<const AnswerPart> LayerDispatch::answered(CallId id, const wire::ExpertReply& reply,
                                                    TimePoint now) {
  answer_.clear();
  const auto call = find(id);
  if (call == calls_.end()) return answer_;
  // A worker that was stopped says of a late answer only how long that lasted.
  auto took = DispatchOptions::Duration(now - call->sent_at);
  if (call->missed) took = std::min(took, 2 * call->patience);
  const AnswerTimes times{call->units,
                          static_cast<std::uint32_t>(call->pairs),
                          took,
                          std::chrono::microseconds(reply.queue_us),
                          std::chrono::microseconds(reply.compute_us),
                          reply.batch_pairs};
  workers_[call->worker].health.answered(times, now);
  fleet_.answered(times, now);
  Layer& layer = layers_[call->batch];
  bool counts = false;
  for (AnswerPart& part : call->parts) {
    if (!part.counts) continue;
    --layer.owners[part.expert];
    part.counts = layer.pairs[part.expert] > 0;
    if (!part.counts) continue;
    counts = true;
    layer.pairs[part.expert] = 0;
    --layer.missing;
    std::erase_if(layer.waiting, [&](const Waiting& w) { return w.expert == part.expert; });
  }
  if (counts) {
    const double batch = std::max<double>(reply.batch_pairs, static_cast<double>(call->pairs));
    stats_.device_us += reply.compute_us * (static_cast<double>(call->pairs) / batch);
    answer_ = std::move(call->parts);
  } else {
    ++stats_.late;
  }
  calls_.erase(call);
  // Whoever is asked for nothing else is not waited for any more.
  if (counts) {
    for (Call& other : calls_) {
      if (!other.parts.empty() && !owns_any(other)) disown(other);
    }
  }
  return answer_;
}

void LayerDispatch::refused(CallId id, TimePoint now) {
  const auto call = find(id);
  if (call == calls_.end()) return;
  workers_[call->worker].health.refused(now);
  if (!call->parts.empty()) ++stats_.resends;
  end(call);
}

void LayerDispatch::failed(CallId id, bool silent, TimePoint now) {
  const auto call = find(id);
  if (call == calls_.end()) return;
  WorkerHealth& health = workers_[call->worker].health;
  health.refused(now);
  if (silent) health.missed(now);
  if (!call->parts.empty()) ++stats_.resends;
  end(call);
}

void LayerDispatch::end(Calls::iterator call) {
  workers_[call->worker].health.ended(call->units);
  Call ended = std::move(*call);
  calls_.erase(call);
  disown(ended);
}

bool LayerDispatch::is_stalled(std::size_t batch) const {
  return !layers_[batch].waiting.empty() && std::ranges::all_of(calls_, [&](const Call& call) {
    return call.batch != batch || call.parts.empty();
  });
}

std::vector<std::uint32_t> LayerDispatch::waiting(std::size_t batch) const {
  std::vector<std::uint32_t> experts;
  for (const Waiting& waiting : layers_[batch].waiting) {
    if (waiting.not_by == kNobody) experts.push_back(waiting.expert);
  }
  return experts;
}

std::optional<std::size_t> LayerDispatch::worker_of(CallId id) const {
  const auto call = find(id);
  return call == calls_.end() ? std::nullopt : std::optional(call->worker);
}

std::size_t LayerDispatch::batch_of(CallId id) const {
  const auto call = find(id);
  CONCLAVE_CHECK(call != calls_.end());
  return call->batch;
}

// An expert that the call owns and that has no answer yet.
bool LayerDispatch::owns_any(const Call& call) const {
  return std::ranges::any_of(call.parts, [&](const AnswerPart& part) {
    return part.counts && layers_[call.batch].pairs[part.expert] > 0;
  });
}

void LayerDispatch::disown(Call& call) {
  for (const AnswerPart& part : std::exchange(call.parts, {})) {
    if (!part.counts) continue;
    --layers_[call.batch].owners[part.expert];
    wait_again(layers_[call.batch], part.expert);
  }
}

void LayerDispatch::wait_again(Layer& layer, std::uint32_t expert) {
  if (layer.pairs[expert] == 0 || layer.owners[expert] > 0) return;
  const auto waits = std::ranges::find(layer.waiting, expert, &Waiting::expert);
  if (waits == layer.waiting.end()) {
    layer.waiting.push_back({expert, kNobody});
  } else {
    waits->not_by = kNobody;  // a hedge that is all there is
  }
}

LayerDispatch::Calls::iterator LayerDispatch::find(CallId id) {
  return std::ranges::find(calls_, id, &Call::id);
}

LayerDispatch::Calls::const_iterator LayerDispatch::find(CallId id) const {
  return std::ranges::find(calls_, id, &Call::id);
}

// ---- deadlines ----

std::optional<DispatchOptions::Duration> LayerDispatch::quantile(const Worker& worker,
                                                                 std::size_t units,
                                                                 double q) const {
  const auto own = worker.health.latencies().quantile(units, q);
  return own ? own : fleet_.latencies().quantile(units, q);
}

DispatchOptions::Duration LayerDispatch::patience(const Call& call) const {
  const std::uint32_t times = 1u << layers_[call.batch].attempts;
  const auto usual = quantile(workers_[call.worker], call.units, kDeadlineShare);
  if (!usual) return options_.resend_max * times;
  const auto beyond = std::max<DispatchOptions::Duration>(kDeadlineBeyond, *usual / 2);
  const auto patience = std::min(kDeadlineTimes * *usual, *usual + beyond);
  return std::clamp(patience, options_.resend_min, options_.resend_max) * times;
}

}  // namespace conclave::dispatch
