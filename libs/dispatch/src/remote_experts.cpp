#include "conclave/dispatch/remote_experts.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "conclave/wire/expert.hpp"

namespace conclave::dispatch {

using base::ErrorCode;
using base::fail;
using base::Status;
using std::chrono::milliseconds;

namespace {

// How long a worker that failed or refused is passed over, and how often a run that waits for an
// expert looks for a new table: short against a reload, long against a spin.
constexpr milliseconds kPause{20};

// A call costs the reading of its experts' weights and the arithmetic of its pairs. At 36 GB/s and
// 276 GFLOP/s a core (kernels_bench, Q8_0) reading an expert takes as long as four of its rows.
constexpr std::size_t kRowsPerRead = 4;

// Pairs travel as they are in memory.
static_assert(sizeof(model::ExpertPair) == 8 && alignof(model::ExpertPair) == 4);

wire::RowForms wire_forms(const model::RowForms& forms) {
  if (forms.quantized && forms.floats) return wire::RowForms::kBoth;
  return forms.quantized ? wire::RowForms::kQuantized : wire::RowForms::kFloats;
}

}  // namespace

RemoteExperts::RemoteExperts(const model::ModelConfig& config, std::vector<model::RowForms> forms,
                             const kernels::Compute& compute, fabric::CallClient& client,
                             const DispatchSettings& settings, telemetry::Metrics& metrics,
                             telemetry::Logger log)
    : config_(config),
      forms_(std::move(forms)),
      compute_(compute),
      client_(client),
      settings_(settings),
      log_(std::move(log)),
      calls_(metrics.counter("conclave_router_expert_calls_total", "Calls sent to workers")),
      pairs_sent_(metrics.counter("conclave_router_expert_pairs_total", "Pairs sent to workers")),
      resends_(metrics.counter("conclave_router_expert_resends_total",
                               "Calls that a worker did not answer and that went elsewhere")),
      stalls_(metrics.counter("conclave_router_expert_stalls_total",
                              "Steps that waited for an expert that no worker had ready")),
      reachable_(fail(ErrorCode::kUnavailable, "no routing table has come yet")) {}

RemoteExperts::~RemoteExperts() {
  abandon();
  release_replies();
  for (const Worker& worker : workers_) client_.disconnect(worker.link);
}

void RemoteExperts::update(std::shared_ptr<const wire::RoutingTable> table) {
  if (table->layers != config_.layers || table->experts != config_.gate.experts) return;
  {
    const std::lock_guard lock(mutex_);
    if (next_ && table->epoch <= next_->epoch) return;
    next_ = std::move(table);
  }
  client_.wake();
}

void RemoteExperts::stop() {
  stopped_ = true;
  client_.wake();
}

Status RemoteExperts::reachable() const {
  const std::lock_guard lock(mutex_);
  return reachable_;
}

void RemoteExperts::apply_table() {
  std::shared_ptr<const wire::RoutingTable> table;
  {
    const std::lock_guard lock(mutex_);
    table = std::exchange(next_, nullptr);
  }
  if (!table || (table_ && table->epoch <= table_->epoch)) return;
  connect_workers(*table);
  table_ = std::move(table);
  model_key_ = wire::model_key_of(table_->model);
  epoch_.store(table_->epoch, std::memory_order_relaxed);
  note_reachability();
}

// Workers that stay keep their links and what is under way on them.
void RemoteExperts::connect_workers(const wire::RoutingTable& table) {
  std::vector<Worker> workers;
  for (const wire::WorkerEndpoint& endpoint : table.workers) {
    const auto known = std::ranges::find(workers_, endpoint, &Worker::endpoint);
    if (known != workers_.end() && known->link != 0) {
      workers.push_back(std::move(*known));
      workers_.erase(known);
      continue;
    }
    const auto link = client_.connect(endpoint.address);
    if (!link) {
      log_.error("worker_address_refused",
                 {{"worker", endpoint.node}, {"error", link.error().message}});
    }
    workers.push_back({endpoint, link.value_or(0), {}, {}, 0, 0});
  }
  std::swap(workers, workers_);
  for (Worker& gone : workers) {
    if (gone.call != 0) {
      client_.cancel(gone.call);
      give_back(gone, {});
    }
    // Outputs of the run at hand may lie in memory that goes with the link.
    if (gone.link != 0) parting_.push_back(gone.link);
  }
}

void RemoteExperts::note_reachability() {
  Status status;
  const std::string missing = whom_we_miss();
  if (!missing.empty()) status = fail(ErrorCode::kUnavailable, missing);
  const std::lock_guard lock(mutex_);
  reachable_ = std::move(status);
}

// The first that is missing and why, and how many are not.
std::string RemoteExperts::whom_we_miss() const {
  if (!table_) return "no routing table has come yet";
  std::string first;
  std::size_t there = 0;
  for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < config_.gate.experts; ++expert) {
      const auto pool = table_->pool_of(layer, expert);
      const bool up = std::ranges::any_of(
          pool, [&](std::uint16_t index) { return client_.is_up(workers_[index].link); });
      if (up) ++there;
      if (up || !first.empty()) continue;
      const std::string name =
          "expert (" + std::to_string(layer) + ", " + std::to_string(expert) + ")";
      first = pool.empty()
                  ? name + " has no ready worker"
                  : "no link to " + workers_[pool[0]].endpoint.node + ", which has " + name;
    }
  }
  if (first.empty()) return {};
  const std::size_t all = std::size_t{config_.layers - config_.dense_layers} * config_.gate.experts;
  return first + " (" + std::to_string(100 * there / all) + " % of the experts are there)";
}

void RemoteExperts::maintain(Clock::time_point until) {
  release_replies();
  apply_table();
  for (const fabric::CallEvent& event : client_.poll(until)) {
    if (event.kind == fabric::CallEvent::Kind::kReply) client_.release(event.call);
  }
  apply_table();
  note_reachability();
}

Status RemoteExperts::run(std::uint32_t layer, const float* x, std::size_t rows,
                          std::span<const model::ExpertPair> pairs,
                          std::span<const float*> outputs) {
  release_replies();
  apply_table();
  CONCLAVE_TRY_VOID(order_.sort(pairs, rows, config_.gate.experts));
  start(layer, x, rows);

  const Clock::time_point give_up = Clock::now() + milliseconds(settings_.reload_wait_ms);
  while (run_.missing > 0) {
    Status status;
    if (stopped_) status = fail(ErrorCode::kCancelled, "the router stops");
    if (status) status = assign_and_send();
    if (status) status = wait_for_answers(give_up);
    if (!status) {
      abandon();
      return status;
    }
  }
  for (std::size_t pair = 0; pair < pairs.size(); ++pair) {
    outputs[pair] = sorted_outputs_[order_.places()[pair]];
  }
  return {};
}

void RemoteExperts::start(std::uint32_t layer, const float* x, std::size_t rows) {
  run_.layer = layer;
  run_.rows = rows;
  run_.under_way = 0;
  run_.stalled = false;
  run_.refusal.clear();
  run_.waiting.clear();
  for (std::uint32_t expert = 0; expert < config_.gate.experts; ++expert) {
    if (order_.run(expert).count > 0) run_.waiting.push_back(expert);
  }
  run_.missing = run_.waiting.size();
  sorted_outputs_.resize(order_.sorted().size());
  run_.x = forms_[layer].quantized
               ? kernels::quantize(compute_, x, rows, config_.hidden, quantized_)
               : kernels::RowsView{.values = x, .rows = rows, .columns = config_.hidden};
}

// Gives every expert that waits to the least loaded of its workers that is free, those with the
// fewest workers to choose from first, and sends what came together.
Status RemoteExperts::assign_and_send() {
  if (run_.waiting.empty() || !table_) return {};
  const Clock::time_point now = Clock::now();
  const auto pool_size = [&](std::uint32_t expert) {
    return table_->pool_of(run_.layer, expert).size();
  };
  std::ranges::stable_sort(run_.waiting, {}, pool_size);
  std::erase_if(run_.waiting, [&](std::uint32_t expert) {
    Worker* best = nullptr;
    for (const std::uint16_t index : table_->pool_of(run_.layer, expert)) {
      Worker& worker = workers_[index];
      if (worker.call != 0 || worker.avoid_until > now || !client_.is_up(worker.link)) continue;
      if (best == nullptr || worker.load < best->load) best = &worker;
    }
    if (best == nullptr) return false;
    best->experts.push_back(expert);
    best->load += kRowsPerRead + order_.run(expert).count;
    return true;
  });
  for (Worker& worker : workers_) {
    if (worker.call == 0 && !worker.experts.empty()) CONCLAVE_TRY_VOID(send(worker));
  }
  return {};
}

Status RemoteExperts::send(Worker& worker) {
  std::ranges::sort(worker.experts);
  const wire::ExpertCall call = describe(worker);
  const auto buffer = client_.prepare(worker.link, call);
  if (!buffer) {
    // Bad calls are ours; all else is the link's state, which may differ a moment later.
    if (buffer.error().code == ErrorCode::kInvalidArgument) return fail(buffer.error());
    give_back(worker, kPause);
    return {};
  }
  fill(worker, call, buffer->payload);
  worker.call = buffer->id;
  ++run_.under_way;
  calls_.add();
  pairs_sent_.add(call.pairs);
  client_.send(buffer->id, trace_, Clock::now() + milliseconds(settings_.call_timeout_ms));
  return {};
}

// Numbers the rows that the worker's experts want, in their order, so that pairs stay sorted.
wire::ExpertCall RemoteExperts::describe(const Worker& worker) {
  constexpr std::uint32_t kUnused = ~0u;
  row_at_.assign(run_.rows, kUnused);
  std::size_t pairs = 0;
  for (const std::uint32_t expert : worker.experts) {
    const auto group = order_.run(expert);
    for (std::size_t i = 0; i < group.count; ++i) {
      row_at_[order_.sorted()[group.first + i].row] = 0;
    }
    pairs += group.count;
  }
  call_rows_.clear();
  for (std::uint32_t row = 0; row < run_.rows; ++row) {
    if (row_at_[row] == kUnused) continue;
    row_at_[row] = static_cast<std::uint32_t>(call_rows_.size());
    call_rows_.push_back(row);
  }
  return {.model_key = model_key_,
          .epoch = table_->epoch,
          .layer = run_.layer,
          .rows = static_cast<std::uint32_t>(call_rows_.size()),
          .pairs = static_cast<std::uint32_t>(pairs),
          .hidden = config_.hidden,
          .forms = wire_forms(forms_[run_.layer])};
}

void RemoteExperts::fill(const Worker& worker, const wire::ExpertCall& call,
                         std::span<std::byte> payload) {
  const wire::CallLayout layout = *wire::layout_of(call);  // prepare() accepted it
  std::byte* pair_at = payload.data() + layout.pairs;
  for (const std::uint32_t expert : worker.experts) {
    const auto group = order_.run(expert);
    for (std::size_t i = 0; i < group.count; ++i) {
      const model::ExpertPair pair{row_at_[order_.sorted()[group.first + i].row], expert};
      std::memcpy(pair_at, &pair, sizeof pair);
      pair_at += sizeof pair;
    }
  }
  const auto copy_rows = [&](const void* from, std::size_t row_bytes, std::size_t offset) {
    const auto* rows = static_cast<const std::byte*>(from);
    for (std::size_t i = 0; i < call_rows_.size(); ++i) {
      std::memcpy(payload.data() + offset + i * row_bytes, rows + call_rows_[i] * row_bytes,
                  row_bytes);
    }
  };
  const model::RowForms& forms = forms_[run_.layer];
  const std::size_t hidden = config_.hidden;
  if (forms.quantized) {
    copy_rows(run_.x.quants, hidden, layout.quants);
    copy_rows(run_.x.scales, hidden / kernels::kRowBlock * sizeof(float), layout.scales);
  }
  if (forms.floats) copy_rows(run_.x.values, hidden * sizeof(float), layout.floats);
}

Status RemoteExperts::wait_for_answers(Clock::time_point give_up) {
  const Clock::time_point now = Clock::now();
  const bool stalled = !run_.waiting.empty() && run_.under_way == 0;
  if (stalled && now >= give_up) return fail(nobody_computes());
  if (stalled && !std::exchange(run_.stalled, true)) stalls_.add();
  const Clock::time_point until =
      run_.waiting.empty() ? now + milliseconds(settings_.call_timeout_ms) : now + kPause;
  for (const fabric::CallEvent& event : client_.poll(until)) CONCLAVE_TRY_VOID(take(event));
  apply_table();
  return {};
}

base::Error RemoteExperts::nobody_computes() const {
  std::string why = whom_we_miss();
  if (why.empty()) why = run_.refusal;
  return {ErrorCode::kUnavailable, "layer " + std::to_string(run_.layer) + " waited " +
                                       std::to_string(settings_.reload_wait_ms) + " ms: " + why};
}

Status RemoteExperts::take(const fabric::CallEvent& event) {
  using Kind = fabric::CallEvent::Kind;
  switch (event.kind) {
    case Kind::kUp:
    case Kind::kDown:
      note_reachability();
      return {};  // calls under way on it fail by events of their own
    case Kind::kReply:
      if (Worker* worker = worker_of(event.call)) return answered(*worker, event);
      client_.release(event.call);
      return {};
    case Kind::kFailed:
      if (Worker* worker = worker_of(event.call)) {
        log_.warn("expert_call_failed",
                  {{"worker", worker->endpoint.node}, {"error", event.error.message}});
        run_.refusal = worker->endpoint.node + ": " + event.error.message;
        resends_.add();
        give_back(*worker, kPause);
      }
      return {};
  }
  return {};
}

Status RemoteExperts::answered(Worker& worker, const fabric::CallEvent& event) {
  if (!event.reply.ok) {
    const base::Error error = event.reply.error;
    client_.release(event.call);
    if (error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kCorruptData) {
      return fail(ErrorCode::kInternal, worker.endpoint.node + " refused a call: " + error.message);
    }
    log_.debug("expert_call_refused", {{"worker", worker.endpoint.node}, {"error", error.message}});
    run_.refusal = worker.endpoint.node + " refuses: " + error.message;
    resends_.add();
    give_back(worker, kPause);
    return {};
  }
  const auto* y = reinterpret_cast<const float*>(event.payload.data());
  for (const std::uint32_t expert : worker.experts) {
    const auto group = order_.run(expert);
    for (std::size_t i = 0; i < group.count; ++i, y += config_.hidden) {
      sorted_outputs_[group.first + i] = y;
    }
  }
  replies_.push_back(event.call);
  run_.missing -= worker.experts.size();
  --run_.under_way;
  worker.experts.clear();
  worker.load = 0;
  worker.call = 0;
  return {};
}

// The experts of the worker's call wait again.
void RemoteExperts::give_back(Worker& worker, Clock::duration avoid) {
  run_.waiting.insert(run_.waiting.end(), worker.experts.begin(), worker.experts.end());
  worker.experts.clear();
  worker.load = 0;
  if (worker.call != 0) --run_.under_way;
  worker.call = 0;
  worker.avoid_until = Clock::now() + avoid;
}

void RemoteExperts::abandon() {
  for (Worker& worker : workers_) {
    if (worker.call != 0) client_.cancel(worker.call);
    worker.call = 0;
    worker.experts.clear();
    worker.load = 0;
  }
  run_.under_way = 0;
}

void RemoteExperts::release_replies() {
  for (const fabric::CallId call : replies_) client_.release(call);
  replies_.clear();
  for (const fabric::DataLinkId link : parting_) client_.disconnect(link);
  parting_.clear();
}

RemoteExperts::Worker* RemoteExperts::worker_of(fabric::CallId call) {
  const auto worker = std::ranges::find(workers_, call, &Worker::call);
  return worker == workers_.end() ? nullptr : &*worker;
}

}  // namespace conclave::dispatch
