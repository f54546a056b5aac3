#include "conclave/testkit/direct_worker.hpp"

#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/model/experts.hpp"
#include "conclave/wire/expert.hpp"

namespace conclave::testkit {

using base::ErrorCode;
using base::fail;

DirectWorker::DirectWorker(fabric::Context& context, const std::string& name,
                           const kernels::Compute& compute, const wire::ModelVersion& version,
                           const model::ModelConfig& config)
    : name_(name),
      model_key_(wire::model_key_of(version)),
      config_(config),
      experts_(config, compute),
      server_(fabric::CallServer::create(context, name, 1, {}, {}).value()) {
  CONCLAVE_CHECK(server_->serve_direct(
      name, [this, server = server_.get()](std::span<fabric::IncomingCall* const> calls) {
        for (fabric::IncomingCall* call : calls) serve(*call, *server);
      }));
}

DirectWorker::~DirectWorker() = default;

wire::WorkerEndpoint DirectWorker::endpoint() const { return {name_, 1, "direct://" + name_}; }

void DirectWorker::host(const gguf::File& file, model::ExpertId id) {
  model::Expert expert = model::load_expert(file, config_, id).value();
  const std::lock_guard lock(mutex_);
  CONCLAVE_CHECK(experts_.insert(id, std::move(expert)));
}

void DirectWorker::host_all(const gguf::File& file) {
  for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
    for (std::uint32_t index = 0; index < config_.gate.experts; ++index) host(file, {layer, index});
  }
}

void DirectWorker::drop(model::ExpertId id) {
  const std::lock_guard lock(mutex_);
  experts_.erase(id);
}

void DirectWorker::refuse(int calls, base::Error error) {
  const std::lock_guard lock(mutex_);
  refusals_ = calls;
  refusal_ = std::move(error);
}

void DirectWorker::before_call(std::function<void()> action) {
  const std::lock_guard lock(mutex_);
  before_call_ = std::move(action);
}

wire::TraceContext DirectWorker::last_trace() {
  const std::lock_guard lock(mutex_);
  return last_trace_;
}

void DirectWorker::serve(fabric::IncomingCall& call, fabric::CallServer& server) {
  std::function<void()> action;
  {
    const std::lock_guard lock(mutex_);
    action = before_call_;
    last_trace_ = call.trace;
  }
  if (action) action();
  const base::Status status = compute(call);
  wire::ExpertReply reply;
  if (status) {
    ++served_;
  } else {
    reply.ok = false;
    reply.error = status.error();
  }
  server.answer(call, reply);
}

base::Status DirectWorker::compute(fabric::IncomingCall& call) {
  const std::lock_guard lock(mutex_);
  if (refusals_ > 0) {
    --refusals_;
    return fail(refusal_);
  }
  if (call.call.model_key != model_key_) return fail(ErrorCode::kNotFound, "another model");
  const wire::CallLayout layout = *wire::layout_of(call.call);
  kernels::RowsView rows{.rows = call.call.rows, .columns = call.call.hidden};
  if (call.call.forms != wire::RowForms::kFloats) {
    rows.quants = reinterpret_cast<const std::int8_t*>(call.payload.data() + layout.quants);
    rows.scales = reinterpret_cast<const float*>(call.payload.data() + layout.scales);
  }
  if (call.call.forms != wire::RowForms::kQuantized) {
    rows.values = reinterpret_cast<const float*>(call.payload.data() + layout.floats);
  }
  std::vector<model::ExpertPair> pairs;
  for (const fabric::CallPair& pair : call.pairs) pairs.push_back({pair.row, pair.expert});
  return experts_.run(call.call.layer, rows, pairs, reinterpret_cast<float*>(call.reply.data()));
}

}  // namespace conclave::testkit
