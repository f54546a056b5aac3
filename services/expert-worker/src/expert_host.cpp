#include "expert_host.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

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

// The parts of a call's payload; the server checked that they are all there.
std::span<const model::ExpertPair> pairs_of(const IncomingCall& call) {
  const auto* first = call.payload.data() + wire::layout_of(call.call)->pairs;
  return {reinterpret_cast<const model::ExpertPair*>(first), call.call.pairs};
}

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
  return a.call.layer == b.call.layer && a.call.forms == b.call.forms;
}

}  // namespace

void ExpertHost::open(const wire::ModelVersion& model, const model::ModelConfig& config) {
  const std::lock_guard lock(mutex_);
  model_ = model;
  model_key_ = wire::model_key_of(model);
  config_ = config;
  experts_ = std::make_unique<model::ExpertSet>(config, compute_);
  ready_ = wire::ExpertBits(config.layers, config.gate.experts);
}

Status ExpertHost::insert(model::ExpertId id, model::Expert expert) {
  const std::lock_guard lock(mutex_);
  if (!experts_) return fail(ErrorCode::kFailedPrecondition, "no model is open");
  CONCLAVE_TRY_VOID(experts_->insert(id, std::move(expert)));
  ready_.set(id.layer, id.index);
  return {};
}

void ExpertHost::erase(model::ExpertId id) {
  const std::lock_guard lock(mutex_);
  if (experts_ && experts_->erase(id)) ready_.set(id.layer, id.index, false);
}

wire::ModelVersion ExpertHost::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

wire::ExpertBits ExpertHost::ready() const {
  const std::lock_guard lock(mutex_);
  return ready_;
}

std::size_t ExpertHost::bytes() const {
  const std::lock_guard lock(mutex_);
  return experts_ ? experts_->bytes() : 0;
}

HostLoad ExpertHost::load() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

Status ExpertHost::check(const IncomingCall& call) const {
  if (!experts_ || call.call.model_key != model_key_) {
    return fail(ErrorCode::kNotFound, "this worker does not host that model");
  }
  if (call.call.hidden != config_.hidden) {
    return fail(ErrorCode::kInvalidArgument, "rows of " + std::to_string(call.call.hidden) +
                                                 " values, not " + std::to_string(config_.hidden));
  }
  const std::uint32_t layer = call.call.layer;
  std::uint32_t last = ~0u;  // pairs are sorted by expert
  for (const model::ExpertPair& pair : pairs_of(call)) {
    if (pair.expert == last) continue;
    last = pair.expert;
    if (!experts_->has({layer, last})) {
      return fail(ErrorCode::kNotFound, "expert (" + std::to_string(layer) + ", " +
                                            std::to_string(last) + ") is not here");
    }
  }
  return {};
}

void ExpertHost::serve(Calls calls, fabric::CallServer& server) {
  const std::lock_guard lock(mutex_);
  batch_.clear();
  for (IncomingCall* call : calls) {
    if (const Status status = check(*call)) {
      batch_.push_back(call);
    } else {
      server.answer(*call, {.ok = false, .error = status.error()});
    }
  }
  // Runs of calls that can be computed together, in order of arrival among themselves.
  std::ranges::stable_sort(batch_, {}, [](const IncomingCall* call) {
    return std::pair(call->call.layer, call->call.forms);
  });
  for (std::size_t first = 0; first < batch_.size();) {
    std::size_t rows = batch_[first]->call.rows;
    std::size_t last = first + 1;
    while (last < batch_.size() && alike(*batch_[first], *batch_[last]) &&
           rows + batch_[last]->call.rows <= kMergedRowsMax) {
      rows += batch_[last++]->call.rows;
    }
    serve_layer(Calls(batch_).subspan(first, last - first), server);
    first = last;
  }
}

void ExpertHost::serve_layer(Calls calls, fabric::CallServer& server) {
  const Clock::time_point start = Clock::now();
  std::size_t rows = 0;
  std::size_t pairs = 0;
  for (const IncomingCall* call : calls) {
    rows += call->call.rows;
    pairs += call->call.pairs;
  }
  const Status status = calls.size() == 1 ? run_one(*calls[0]) : run_merged(calls, rows);
  const std::uint32_t compute_us = microseconds(Clock::now() - start);
  load_.calls += calls.size();
  load_.pairs += pairs;
  load_.compute_us += compute_us;
  if (calls.size() > 1) load_.merged_calls += calls.size();
  for (IncomingCall* call : calls) {
    wire::ExpertReply reply{.queue_us = microseconds(start - call->arrived),
                            .compute_us = compute_us,
                            .batch_pairs = static_cast<std::uint32_t>(pairs)};
    if (!status) {
      reply.ok = false;
      reply.error = status.error();
    }
    server.answer(*call, reply);
  }
}

Status ExpertHost::run_one(const IncomingCall& call) {
  return experts_->run(call.call.layer, rows_of(call), pairs_of(call), reply_of(call));
}

// The rows of all calls one after another, their pairs sorted anew: every expert's weights are read
// once for all of them.
Status ExpertHost::run_merged(Calls calls, std::size_t rows) {
  gather(calls, rows);
  CONCLAVE_TRY_VOID(order_.sort(pairs_, rows, config_.gate.experts));
  y_.resize(pairs_.size() * config_.hidden);
  kernels::RowsView view{.rows = rows, .columns = config_.hidden};
  const wire::RowForms forms = calls[0]->call.forms;
  if (forms != wire::RowForms::kFloats) {
    view.quants = quantized_.quants(0);
    view.scales = quantized_.scales(0);
  }
  if (forms != wire::RowForms::kQuantized) view.values = floats_.data();
  CONCLAVE_TRY_VOID(experts_->run(calls[0]->call.layer, view, order_.sorted(), y_.data()));
  scatter(calls);
  return {};
}

void ExpertHost::gather(Calls calls, std::size_t rows) {
  const std::size_t hidden = config_.hidden;
  const wire::RowForms forms = calls[0]->call.forms;
  if (forms != wire::RowForms::kFloats) quantized_.resize(rows, hidden);
  if (forms != wire::RowForms::kQuantized) floats_.resize(rows * hidden);
  pairs_.clear();
  std::size_t first = 0;
  for (const IncomingCall* call : calls) {
    const kernels::RowsView view = rows_of(*call);
    if (view.quants != nullptr) {
      std::memcpy(quantized_.quants(first), view.quants, view.rows * hidden);
      std::memcpy(quantized_.scales(first), view.scales,
                  view.rows * (hidden / kernels::kRowBlock) * sizeof(float));
    }
    if (view.values != nullptr) {
      std::memcpy(floats_.data() + first * hidden, view.values, view.rows * hidden * sizeof(float));
    }
    for (const model::ExpertPair& pair : pairs_of(*call)) {
      pairs_.push_back({pair.row + static_cast<std::uint32_t>(first), pair.expert});
    }
    first += view.rows;
  }
}

void ExpertHost::scatter(Calls calls) {
  const std::size_t hidden = config_.hidden;
  auto place = order_.places().begin();
  for (const IncomingCall* call : calls) {
    float* out = reply_of(*call);
    for (std::size_t i = 0; i < call->call.pairs; ++i, ++place, out += hidden) {
      std::copy_n(y_.data() + *place * hidden, hidden, out);
    }
  }
}

}  // namespace conclave::expert_worker
