#include "expert_host.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <string>

#include "conclave/wire/expert.hpp"

namespace conclave::expert_worker {

using base::ErrorCode;
using base::fail;
using base::Status;
using fabric::IncomingCall;
using Clock = std::chrono::steady_clock;

namespace {

std::uint32_t microseconds(Clock::duration duration) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(us, 0, ~0u));
}

// The rows in a call's payload; the server checked that they are all there.
kernels::RowsView rows_of(const IncomingCall& call) {
  const wire::CallLayout layout = *wire::layout_of(call.call);
  kernels::RowsView view{.rows = call.call.rows, .columns = call.call.hidden};
  if (call.call.forms != wire::RowForms::kFloats) {
    view.quants = reinterpret_cast<const std::int8_t*>(call.payload.data() + layout.quants);
    view.scales = reinterpret_cast<const float*>(call.payload.data() + layout.scales);
  }
  if (call.call.forms != wire::RowForms::kQuantized) {
    view.values = reinterpret_cast<const float*>(call.payload.data() + layout.floats);
  }
  return view;
}

float* reply_of(const IncomingCall& call) { return reinterpret_cast<float*>(call.reply.data()); }

// Calls that can be computed as one.
bool alike(const IncomingCall& a, const IncomingCall& b) {
  return a.call.model_key == b.call.model_key && a.call.layer == b.call.layer &&
         a.call.forms == b.call.forms;
}

}  // namespace

// A thread that computes batch after batch would hardly ever let another one have the experts: a
// mutex alone does not queue. Whoever waits holds `turn_`, and the computing thread waits for that.
std::unique_lock<std::mutex> ExpertHost::take_turn() {
  const std::lock_guard turn(turn_);
  return std::unique_lock(mutex_);
}

ExpertHost::Model::Model(const wire::ModelVersion& of, const model::ModelConfig& described,
                         const kernels::Compute& compute)
    : config(described),
      experts(described, compute),
      version(of),
      ready(described.layers, described.gate.experts),
      pairs(std::size_t{described.layers} * described.gate.experts) {}

ExpertHost::Model* ExpertHost::find(const wire::ModelVersion& model) const {
  const auto found = models_.find(wire::model_key_of(model));
  return found == models_.end() ? nullptr : found->second.get();
}

void ExpertHost::open(const wire::ModelVersion& model, const model::ModelConfig& config) {
  const auto turn = take_turn();
  auto opened = find(model) == nullptr ? std::make_unique<Model>(model, config, compute_) : nullptr;
  const std::lock_guard lock(status_mutex_);
  if (opened) {
    models_.emplace(wire::model_key_of(model), std::move(opened));
  } else {
    find(model)->version = model;
  }
}

void ExpertHost::close(const wire::ModelVersion& model) {
  const auto turn = take_turn();
  std::unique_ptr<Model> closed;  // its memory is given back under no lock that readers want
  const std::lock_guard lock(status_mutex_);
  const auto found = models_.find(wire::model_key_of(model));
  if (found == models_.end()) return;
  closed = std::move(found->second);
  models_.erase(found);
  publish_size();
}

Status ExpertHost::insert(const wire::ModelVersion& model, model::ExpertId id,
                          model::Expert expert) {
  const auto turn = take_turn();
  Model* const open = find(model);
  if (open == nullptr) return fail(ErrorCode::kFailedPrecondition, "the model is not open");
  CONCLAVE_TRY_VOID(open->experts.insert(id, std::move(expert)));
  const std::lock_guard lock(status_mutex_);
  open->ready.set(id.layer, id.index);
  publish_size();
  return {};
}

void ExpertHost::erase(const wire::ModelVersion& model, model::ExpertId id) {
  const auto turn = take_turn();
  Model* const open = find(model);
  if (open == nullptr || !open->experts.erase(id)) return;
  const std::lock_guard lock(status_mutex_);
  open->ready.set(id.layer, id.index, false);
  publish_size();
}

// Under both mutexes.
void ExpertHost::publish_size() {
  size_ = bytes_ = 0;
  for (const auto& [key, model] : models_) {
    size_ += model->experts.size();
    bytes_ += model->experts.bytes();
  }
}

wire::ExpertBits ExpertHost::ready(const wire::ModelVersion& model) const {
  const std::lock_guard lock(status_mutex_);
  const Model* const open = find(model);
  return open == nullptr ? wire::ExpertBits() : open->ready;
}

std::size_t ExpertHost::size() const {
  const std::lock_guard lock(status_mutex_);
  return size_;
}

std::size_t ExpertHost::bytes() const {
  const std::lock_guard lock(status_mutex_);
  return bytes_;
}

HostLoad ExpertHost::load() const {
  const std::lock_guard lock(status_mutex_);
  return load_;
}

Status ExpertHost::check(const IncomingCall& call) const {
  if (call.deadline <= Clock::now()) {
    return fail(ErrorCode::kDeadlineExceeded, "passed while the call waited");
  }
  if (of_batch_ == nullptr) {
    return fail(ErrorCode::kNotFound, "this worker does not host that model");
  }
  const std::size_t hidden = of_batch_->config.hidden;
  if (call.call.hidden != hidden) {
    return fail(ErrorCode::kInvalidArgument, "rows of " + std::to_string(call.call.hidden) +
                                                 " values, not " + std::to_string(hidden));
  }
  const std::uint32_t layer = call.call.layer;
  const fabric::CallPair* last = nullptr;  // pairs are sorted by expert
  for (const fabric::CallPair& pair : call.pairs) {
    if (last != nullptr && pair.expert == last->expert) continue;
    last = &pair;
    if (!of_batch_->experts.has({layer, pair.expert})) {
      return fail(ErrorCode::kNotFound, "expert (" + std::to_string(layer) + ", " +
                                            std::to_string(pair.expert) + ") is not here");
    }
  }
  return {};
}

std::vector<wire::HostedModel> ExpertHost::hosted() const {
  const std::lock_guard lock(status_mutex_);
  std::vector<wire::HostedModel> hosted;
  for (const auto& [key, model] : models_) {
    wire::HostedModel& one = hosted.emplace_back();
    one.model = model->version;
    one.ready = model->ready;
    for (std::uint32_t layer = 0; layer < one.ready.layers(); ++layer) {
      for (std::uint32_t index = 0; index < one.ready.experts(); ++index) {
        if (!one.ready.test(layer, index)) continue;
        one.expert_pairs.push_back(model->pairs[std::size_t{layer} * one.ready.experts() + index]);
      }
    }
  }
  return hosted;
}

void ExpertHost::serve_next(Calls& waiting, fabric::CallServer& server) {
  const auto turn = take_turn();
  take_batch(waiting);
  refuse_bad_calls(server);
  if (batch_.empty()) return;

  const Clock::time_point start = Clock::now();
  const Status status = run_batch();
  const std::uint32_t compute_us = microseconds(Clock::now() - start);
  std::size_t pairs = 0;
  for (const IncomingCall* call : batch_) pairs += call->call.pairs;
  {
    const std::lock_guard lock(status_mutex_);
    load_.calls += batch_.size();
    load_.pairs += pairs;
    load_.compute_us += compute_us;
    if (batch_.size() > 1) load_.merged_calls += batch_.size();
    for (const IncomingCall* call : batch_) {
      load_.queue_us += microseconds(start - call->arrived);
      std::uint64_t* layer =
          &of_batch_->pairs[std::size_t{call->call.layer} * of_batch_->config.gate.experts];
      for (const fabric::CallPair& pair : call->pairs) ++layer[pair.expert];
    }
  }
  for (IncomingCall* call : batch_) {
    wire::ExpertReply reply{.queue_us = microseconds(start - call->arrived),
                            .compute_us = compute_us,
                            .batch_pairs = static_cast<std::uint32_t>(pairs)};
    if (!status) {
      reply.ok = false;
      reply.error = status.error();
    }
    if (tracer_.enabled()) record(*call, reply);
    server.answer(*call, reply);
  }
}

void ExpertHost::record(const IncomingCall& call, const wire::ExpertReply& reply) const {
  const telemetry::SpanContext parent = telemetry::span_context(call.trace);
  if (!parent.sampled()) return;
  constexpr double kMicrosecond = 1e-6;
  tracer_.record({.context = tracer_.child(parent),
                  .parent_id = parent.span_id,
                  .name = "experts",
                  .kind = telemetry::SpanKind::kServer,
                  .begin = call.arrived,
                  .end = Clock::now(),
                  .attributes = {{"conclave.layer", std::int64_t{call.call.layer}},
                                 {"conclave.pairs", std::int64_t{call.call.pairs}},
                                 {"conclave.batch_pairs", std::int64_t{reply.batch_pairs}},
                                 {"conclave.queue_seconds", reply.queue_us * kMicrosecond},
                                 {"conclave.compute_seconds", reply.compute_us * kMicrosecond},
                                 {"conclave.router", std::string(call.peer)}},
                  .error = reply.ok ? std::string() : reply.error.message});
}

// batch_ = the oldest call and those that can be computed with it, in order.
void ExpertHost::take_batch(Calls& waiting) {
  batch_.clear();
  std::size_t rows = 0;
  std::erase_if(waiting, [&](IncomingCall* call) {
    const bool fits = batch_.empty() ||
                      (alike(*batch_.front(), *call) && rows + call->call.rows <= kMergedRowsMax);
    if (!fits) return false;
    rows += call->call.rows;
    batch_.push_back(call);
    return true;
  });
  const auto found = models_.find(batch_.front()->call.model_key);
  of_batch_ = found == models_.end() ? nullptr : found->second.get();
}

void ExpertHost::refuse_bad_calls(fabric::CallServer& server) {
  std::erase_if(batch_, [&](IncomingCall* call) {
    const Status status = check(*call);
    if (!status) server.answer(*call, {.ok = false, .error = status.error()});
    return !status;
  });
}

Status ExpertHost::run_batch() {
  try {
    return batch_.size() == 1 ? run_one(*batch_.front()) : run_merged();
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOverloaded, "no memory to compute this call");
  }
}

Status ExpertHost::run_one(const IncomingCall& call) {
  pairs_.clear();
  for (const fabric::CallPair& pair : call.pairs) pairs_.push_back({pair.row, pair.expert});
  return of_batch_->experts.run(call.call.layer, rows_of(call), pairs_, reply_of(call));
}

// The rows of all calls one after another, their pairs sorted anew: every expert's weights are read
// once for all of them.
Status ExpertHost::run_merged() {
  std::size_t rows = 0;
  for (const IncomingCall* call : batch_) rows += call->call.rows;
  gather(rows);
  CONCLAVE_TRY_VOID(order_.sort(pairs_, rows, of_batch_->config.gate.experts));
  y_.resize(pairs_.size() * of_batch_->config.hidden);
  kernels::RowsView view{.rows = rows, .columns = of_batch_->config.hidden};
  const wire::ExpertCall& any = batch_.front()->call;
  if (any.forms != wire::RowForms::kFloats) {
    view.quants = quantized_.quants(0);
    view.scales = quantized_.scales(0);
  }
  if (any.forms != wire::RowForms::kQuantized) view.values = floats_.data();
  CONCLAVE_TRY_VOID(of_batch_->experts.run(any.layer, view, order_.sorted(), y_.data()));
  scatter();
  return {};
}

void ExpertHost::gather(std::size_t rows) {
  const std::size_t hidden = of_batch_->config.hidden;
  const wire::RowForms forms = batch_.front()->call.forms;
  if (forms != wire::RowForms::kFloats) quantized_.resize(rows, hidden);
  if (forms != wire::RowForms::kQuantized) floats_.resize(rows * hidden);
  pairs_.clear();
  std::size_t first = 0;
  for (const IncomingCall* call : batch_) {
    const kernels::RowsView view = rows_of(*call);
    if (view.quants != nullptr) {
      std::memcpy(quantized_.quants(first), view.quants, view.rows * hidden);
      std::memcpy(quantized_.scales(first), view.scales,
                  view.rows * (hidden / kernels::kRowBlock) * sizeof(float));
    }
    if (view.values != nullptr) {
      std::memcpy(floats_.data() + first * hidden, view.values, view.rows * hidden * sizeof(float));
    }
    for (const fabric::CallPair& pair : call->pairs) {
      pairs_.push_back({pair.row + static_cast<std::uint32_t>(first), pair.expert});
    }
    first += view.rows;
  }
}

void ExpertHost::scatter() {
  const std::size_t hidden = of_batch_->config.hidden;
  auto place = order_.places().begin();
  for (const IncomingCall* call : batch_) {
    float* out = reply_of(*call);
    for (std::size_t i = 0; i < call->pairs.size(); ++i, ++place, out += hidden) {
      std::copy_n(y_.data() + *place * hidden, hidden, out);
    }
  }
}

}  // namespace conclave::expert_worker
