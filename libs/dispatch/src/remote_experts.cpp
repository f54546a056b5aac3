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

// Pairs travel as they are in memory.
static_assert(sizeof(model::ExpertPair) == 8 && alignof(model::ExpertPair) == 4);

wire::RowForms wire_forms(const model::RowForms& forms) {
  if (forms.quantized() && forms.floats) return wire::RowForms::kBoth;
  return forms.quantized() ? wire::RowForms::kQuantized : wire::RowForms::kFloats;
}

}  // namespace

DispatchOptions DispatchSettings::options() const {
  DispatchOptions options;
  options.resend_min = milliseconds(resend_min_ms);
  options.resend_max = milliseconds(std::max(resend_min_ms, resend_max_ms));
  options.hedges_per_call = hedge_percent / 100.0;
  options.health.slow_start = milliseconds(slow_start_ms);
  return options;
}

RemoteExperts::RemoteExperts(const model::ModelConfig& config, std::vector<model::RowForms> forms,
                             const kernels::Compute& compute, fabric::Calls& client,
                             const DispatchSettings& settings, telemetry::Metrics& metrics,
                             telemetry::Logger log, Now now)
    : config_(config),
      forms_(std::move(forms)),
      compute_(compute),
      client_(client),
      settings_(settings),
      log_(std::move(log)),
      now_(std::move(now)),
      calls_(metrics.counter("conclave_router_expert_calls_total", "Calls sent to workers")),
      pairs_sent_(metrics.counter("conclave_router_expert_pairs_total", "Pairs sent to workers")),
      resends_(metrics.counter("conclave_router_expert_resends_total",
                               "Calls that a worker did not answer and that went elsewhere")),
      hedges_(metrics.counter("conclave_router_expert_hedges_total",
                              "Calls for what another worker was slow to answer")),
      late_(metrics.counter("conclave_router_expert_late_answers_total",
                            "Answers that came after another worker's, or too late")),
      suspects_(metrics.counter("conclave_router_expert_suspects_total",
                                "Calls whose deadline passed, so that their worker was suspected")),
      stalls_(metrics.counter("conclave_router_expert_stalls_total",
                              "Steps that waited for an expert that no worker had ready")),
      // 50 us, a worker of this host with little to do, to 26 s, one call's longest time-outs.
      layer_seconds_(metrics.histogram("conclave_router_expert_layer_seconds",
                                       "From a layer's pairs to their outputs, the other half of "
                                       "the step included that is computed meanwhile",
                                       telemetry::exponential_buckets(5e-5, 2, 20))),
      reachable_(fail(ErrorCode::kUnavailable, "no routing table has come yet")),
      // Routers that start at different times draw differently.
      core_(config.gate.experts, settings.options(),
            static_cast<std::uint64_t>(now_().time_since_epoch().count())),
      changed_at_(now_()),
      absent_(std::size_t{config.layers} * config.gate.experts, 0),
      absent_count_(config.layers, 0) {
  for (std::size_t batch = 0; batch < runs_.size(); ++batch) runs_[batch].batch = batch;
}

RemoteExperts::~RemoteExperts() {
  for (Run& run : runs_) release_replies(run);
  for (const Link& link : links_) client_.disconnect(link.id);
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

std::vector<wire::WorkerEndpoint> RemoteExperts::lost_workers() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

void RemoteExperts::apply_table() {
  std::shared_ptr<const wire::RoutingTable> table;
  {
    const std::lock_guard lock(mutex_);
    table = std::exchange(next_, nullptr);
  }
  if (!table || (core_.table() != nullptr && table->epoch <= core_.table()->epoch)) return;
  connect_workers(std::move(table));
  model_key_ = wire::model_key_of(core_.table()->model);
  epoch_.store(core_.table()->epoch, std::memory_order_relaxed);
  changed_at_ = now_();
  note_reachability();
}

// Workers that stay keep their links and what is under way on them.
void RemoteExperts::connect_workers(std::shared_ptr<const wire::RoutingTable> table) {
  const auto former = core_.apply(std::move(table));
  std::vector<Link> links(former.size());
  for (std::size_t i = 0; i < links.size(); ++i) {
    if (former[i]) links[i] = std::exchange(links_[*former[i]], {});
    if (links[i].id != 0) continue;
    const wire::WorkerEndpoint& endpoint = core_.table()->workers[i];
    const auto link = client_.connect(endpoint.address);
    if (!link) {
      log_.error("worker_address_refused",
                 {{"worker", endpoint.node}, {"error", link.error().message}});
      continue;
    }
    links[i] = {*link, client_.is_up(*link)};
    if (links[i].was_up) core_.link(i, true, now_());
  }
  std::swap(links, links_);
  // Outputs of the runs at hand may lie in memory that goes with the link.
  for (const Link& gone : links) {
    if (gone.id != 0) parting_.push_back(gone.id);
  }
}

void RemoteExperts::link_changed(fabric::DataLinkId id, bool up) {
  const auto link = std::ranges::find(links_, id, &Link::id);
  if (link == links_.end()) return;  // of a worker that is gone
  link->was_up |= up;
  core_.link(static_cast<std::size_t>(link - links_.begin()), up, now_());
  changed_at_ = now_();
  note_reachability();
}

void RemoteExperts::note_reachability() {
  note_absences();
  Status status;
  const std::string missing = whom_we_miss();
  if (!missing.empty() && !is_degradable()) status = fail(ErrorCode::kUnavailable, missing);
  std::vector<wire::WorkerEndpoint> lost;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    const bool is_lost = links_[i].was_up && !core_.health(i).is_up();
    if (is_lost) lost.push_back(core_.table()->workers[i]);
  }
  const std::lock_guard lock(mutex_);
  reachable_ = std::move(status);
  lost_ = std::move(lost);
}

// Forgets absences of what is there again, or must be waited for. New ones are found by those who
// miss them.
void RemoteExperts::note_absences() {
  const std::uint32_t experts = config_.gate.experts;
  const bool may_be = core_.table()->policy == wire::DegradedPolicy::kNextBest;
  bool changed = false;
  for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
    for (std::uint32_t e = 0; absent_count_[layer] > 0 && e < experts; ++e) {
      std::uint8_t& is_absent = absent_[std::size_t{layer} * experts + e];
      if (is_absent == 0 || (may_be && !core_.is_linked(layer, e))) continue;
      is_absent = 0;
      --absent_count_[layer];
      changed = true;
    }
  }
  if (changed) ++absences_;
}

std::span<const std::uint8_t> RemoteExperts::absent(std::uint32_t layer) const {
  if (absent_count_[layer] == 0) return {};
  const std::size_t experts = config_.gate.experts;
  return std::span(absent_).subspan(layer * experts, experts);
}

// Tokens may do without what is missing: each layer has as many experts as a token takes.
bool RemoteExperts::is_degradable() const {
  const wire::RoutingTable* table = core_.table();
  if (table == nullptr || table->policy != wire::DegradedPolicy::kNextBest) return false;
  for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
    std::uint32_t there = 0;
    for (std::uint32_t e = 0; e < config_.gate.experts && there < config_.gate.used; ++e) {
      if (core_.is_linked(layer, e)) ++there;
    }
    if (there < config_.gate.used) return false;
  }
  return true;
}

std::string RemoteExperts::name_of(std::size_t worker) const {
  return core_.table()->workers[worker].node;
}

// The first that is missing and why, and how many are not.
std::string RemoteExperts::whom_we_miss() const {
  const wire::RoutingTable* table = core_.table();
  if (table == nullptr) return "no routing table has come yet";
  std::string first;
  std::size_t there = 0;
  for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < config_.gate.experts; ++expert) {
      const bool up = core_.is_linked(layer, expert);
      if (up) ++there;
      if (up || !first.empty()) continue;
      const auto pool = table->pool_of(layer, expert);
      const std::string name =
          "expert (" + std::to_string(layer) + ", " + std::to_string(expert) + ")";
      first = pool.empty() ? name + " has no ready worker"
                           : "no link to " + name_of(pool[0]) + ", which has " + name;
    }
  }
  if (first.empty()) return {};
  const std::size_t all = std::size_t{config_.layers - config_.dense_layers} * config_.gate.experts;
  return first + " (" + std::to_string(100 * there / all) + " % of the experts are there)";
}

void RemoteExperts::maintain(TimePoint until) {
  end_step();
  apply_table();
  (void)take_all(client_.poll(until));
  apply_table();
  count();
}

bool RemoteExperts::is_remote() const {
  return std::ranges::any_of(links_, [this](const Link& link) {
    return link.id != 0 && client_.is_up(link.id) && !client_.is_near(link.id);
  });
}

Status RemoteExperts::run(std::uint32_t layer, const float* x, std::size_t rows,
                          std::span<const model::ExpertPair> pairs,
                          std::span<const float*> outputs) {
  start(0, layer, x, rows, pairs);
  return finish(0, outputs);
}

void RemoteExperts::start(std::size_t batch, std::uint32_t layer, const float* x, std::size_t rows,
                          std::span<const model::ExpertPair> pairs) {
  Run& run = runs_[batch];
  run.absences = absences_;
  release_replies(run);
  apply_table();
  run.layer = layer;
  run.rows = rows;
  run.x = {.values = x, .rows = rows, .columns = config_.hidden};
  run.stalled = false;
  run.refusal.clear();
  run.begin = now_();
  run.status = begin(run, pairs);
}

Status RemoteExperts::finish(std::size_t batch, std::span<const float*> outputs) {
  Run& run = runs_[batch];
  Status status = std::exchange(run.status, {});
  if (status) status = take_what_came();
  while (status && !core_.done(batch)) {
    status = go_on();
    if (status) status = send_orders();
    if (status && core_.is_stalled(batch)) status = judge_stall(run);
    if (status) status = wait_for_answers(run);
  }
  if (!status) core_.abandon(batch);
  count();
  if (!status) return status;
  layer_seconds_.observe(std::chrono::duration<double>(now_() - run.begin).count());
  const auto places = run.order.places();
  for (std::size_t pair = 0; pair < places.size(); ++pair) {
    outputs[pair] = run.sorted_outputs[places[pair]];
  }
  return {};
}

void RemoteExperts::end_step() {
  for (Run& run : runs_) {
    core_.abandon(run.batch);
    run.status = {};
    release_replies(run);
  }
}

// What another micro-batch could not begin ends the step for both.
Status RemoteExperts::go_on() const {
  if (stopped_) return fail(ErrorCode::kCancelled, "the router stops");
  for (const Run& run : runs_) CONCLAVE_TRY_VOID(run.status);
  return {};
}

Status RemoteExperts::begin(Run& run, std::span<const model::ExpertPair> pairs) {
  CONCLAVE_TRY_VOID(go_on());
  CONCLAVE_TRY_VOID(run.order.sort(pairs, run.rows, config_.gate.experts));
  work_.clear();
  for (std::uint32_t expert = 0; expert < config_.gate.experts; ++expert) {
    const std::size_t count = run.order.run(expert).count;
    if (count > 0) work_.push_back({expert, count});
  }
  run.sorted_outputs.resize(run.order.sorted().size());
  const model::RowForms& forms = forms_[run.layer];
  if (forms.quantized()) {
    run.x = kernels::quantize(compute_, run.x.values, run.rows, config_.hidden, forms.scale_block,
                              run.quantized);
  }
  core_.begin(run.layer, work_, run.batch);
  if (core_.has_calls()) CONCLAVE_TRY_VOID(take_what_came());
  return send_orders();
}

// All are ready before the first goes out: on one host its worker starts at once, and perhaps on
// the very processor that was to make the next one ready.
Status RemoteExperts::send_orders() {
  const TimePoint now = now_();
  prepared_.clear();
  for (const Order& order : core_.plan(now)) {
    if (const Status status = prepare(order, now); !status) {
      for (const Prepared& call : prepared_) client_.cancel(call.id);
      return status;
    }
  }
  for (const Prepared& call : prepared_) {
    calls_.add();
    pairs_sent_.add(static_cast<double>(call.order->pairs));
    const TimePoint sent_at = now_();
    core_.sent(*call.order, call.id, sent_at);
    client_.send(call.id, trace_, sent_at + milliseconds(settings_.call_timeout_ms));
  }
  return {};
}

Status RemoteExperts::prepare(const Order& order, TimePoint now) {
  const wire::ExpertCall call = describe(order);
  const auto buffer = client_.prepare(links_[order.worker].id, call);
  if (!buffer) {
    // Bad calls are ours; all else is the link's state, which may differ a moment later.
    if (buffer.error().code == ErrorCode::kInvalidArgument) return fail(buffer.error());
    core_.not_sent(order, now);
    return {};
  }
  fill(order, call, buffer->payload);
  prepared_.push_back({&order, buffer->id});
  return {};
}

// Numbers the rows that the worker's experts want, in their order, so that pairs stay sorted.
wire::ExpertCall RemoteExperts::describe(const Order& order) {
  const Run& run = runs_[order.batch];
  constexpr std::uint32_t kUnused = ~0u;
  row_at_.assign(run.rows, kUnused);
  for (const std::uint32_t expert : order.experts) {
    const auto group = run.order.run(expert);
    for (std::size_t i = 0; i < group.count; ++i) {
      row_at_[run.order.sorted()[group.first + i].row] = 0;
    }
  }
  call_rows_.clear();
  for (std::uint32_t row = 0; row < run.rows; ++row) {
    if (row_at_[row] == kUnused) continue;
    row_at_[row] = static_cast<std::uint32_t>(call_rows_.size());
    call_rows_.push_back(row);
  }
  return {.model_key = model_key_,
          .epoch = core_.table()->epoch,
          .layer = run.layer,
          .rows = static_cast<std::uint32_t>(call_rows_.size()),
          .pairs = static_cast<std::uint32_t>(order.pairs),
          .hidden = config_.hidden,
          .forms = wire_forms(forms_[run.layer])};
}

void RemoteExperts::fill(const Order& order, const wire::ExpertCall& call,
                         std::span<std::byte> payload) {
  const Run& run = runs_[order.batch];
  const wire::CallLayout layout = *wire::layout_of(call);  // prepare() accepted it
  std::byte* pair_at = payload.data() + layout.pairs;
  for (const std::uint32_t expert : order.experts) {
    const auto group = run.order.run(expert);
    for (std::size_t i = 0; i < group.count; ++i) {
      const model::ExpertPair pair{row_at_[run.order.sorted()[group.first + i].row], expert};
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
  const model::RowForms& forms = forms_[run.layer];
  const std::size_t hidden = config_.hidden;
  if (forms.quantized()) {
    copy_rows(run.x.quants, hidden, layout.quants);
    copy_rows(run.x.scales, hidden / kernels::kRowBlock * sizeof(float), layout.scales);
  }
  if (forms.floats) copy_rows(run.x.values, hidden * sizeof(float), layout.floats);
}

// Nothing is under way, and some expert has nobody to compute it now: the table's policy decides.
Status RemoteExperts::judge_stall(Run& run) {
  const TimePoint now = now_();
  if (now >= run.begin + milliseconds(settings_.reload_wait_ms)) return fail(nobody_computes(run));
  if (!std::exchange(run.stalled, true)) stalls_.add();
  const auto policy =
      core_.table() != nullptr ? core_.table()->policy : wire::DegradedPolicy::kWait;
  if (policy == wire::DegradedPolicy::kWait) return {};
  if (now < changed_at_ + milliseconds(settings_.degrade_after_ms)) return {};
  const auto waiting = core_.waiting(run.batch);
  const auto lost = std::ranges::find_if(
      waiting, [&](std::uint32_t expert) { return !core_.is_linked(run.layer, expert); });
  if (lost == waiting.end()) return {};  // somebody pauses only
  if (policy == wire::DegradedPolicy::kFail) {
    return fail(ErrorCode::kUnavailable, "experts are missing: " + whom_we_miss());
  }
  const std::size_t experts = config_.gate.experts;
  const bool is_known = absent_[run.layer * experts + *lost] != 0;
  if (is_known && run.absences == absences_) return {};  // the gate wants it all the same
  if (is_known) return fail(ErrorCode::kUnavailable, "experts are absent that its gate had");
  for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
    for (std::uint32_t e = 0; e < experts; ++e) {
      std::uint8_t& is_absent = absent_[layer * experts + e];
      if (is_absent != 0 || core_.is_linked(layer, e)) continue;
      is_absent = 1;
      ++absent_count_[layer];
    }
  }
  ++absences_;
  log_.warn("experts_absent", {{"missing", whom_we_miss()}});
  return fail(ErrorCode::kUnavailable, "experts are absent that were there before");
}

Status RemoteExperts::wait_for_answers(const Run& run) {
  const TimePoint now = now_();
  const auto events = client_.poll(core_.next(now));
  CONCLAVE_TRY_VOID(take_all(events));
  if (events.empty() && !core_.done(run.batch)) return take_what_came();
  apply_table();
  return {};
}

// Before anybody is held to be late: what came while this thread computed, or did not run.
Status RemoteExperts::take_what_came() {
  CONCLAVE_TRY_VOID(take_all(client_.poll(now_())));
  apply_table();
  return {};
}

// The first error; what comes with it is taken all the same, or nobody would ever hear of it again.
Status RemoteExperts::take_all(std::span<const fabric::CallEvent> events) {
  Status first;
  for (const fabric::CallEvent& event : events) {
    Status status = take(event);
    if (first) first = std::move(status);
  }
  return first;
}

base::Error RemoteExperts::nobody_computes(const Run& run) const {
  std::string why = whom_we_miss();
  if (why.empty()) why = run.refusal;
  return {ErrorCode::kUnavailable, "layer " + std::to_string(run.layer) + " waited " +
                                       std::to_string(settings_.reload_wait_ms) + " ms: " + why};
}

Status RemoteExperts::take(const fabric::CallEvent& event) {
  using Kind = fabric::CallEvent::Kind;
  switch (event.kind) {
    case Kind::kUp:
    case Kind::kDown:
      link_changed(event.link, event.kind == Kind::kUp);
      return {};  // calls under way on it fail by events of their own
    case Kind::kReply:
      return answered(event);
    case Kind::kFailed:
      failed(event);
      return {};
  }
  return {};
}

void RemoteExperts::failed(const fabric::CallEvent& event) {
  const auto worker = core_.worker_of(event.call);
  if (!worker) return;
  log_.warn("expert_call_failed", {{"worker", name_of(*worker)}, {"error", event.error.message}});
  runs_[core_.batch_of(event.call)].refusal = name_of(*worker) + ": " + event.error.message;
  core_.failed(event.call, event.error.code == ErrorCode::kDeadlineExceeded, now_());
}

Status RemoteExperts::answered(const fabric::CallEvent& event) {
  const auto worker = core_.worker_of(event.call);
  const std::size_t batch = worker ? core_.batch_of(event.call) : 0;
  if (event.reply.ok) {
    const auto parts = core_.answered(event.call, event.reply, now_());
    if (parts.empty()) {
      client_.release(event.call);
    } else {
      use(runs_[batch], event, parts);
    }
    return {};
  }
  const base::Error error = event.reply.error;
  client_.release(event.call);
  if (!worker) return {};
  core_.refused(event.call, now_());
  if (error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kCorruptData) {
    return fail(ErrorCode::kInternal, name_of(*worker) + " refused a call: " + error.message);
  }
  log_.debug("expert_call_refused", {{"worker", name_of(*worker)}, {"error", error.message}});
  runs_[batch].refusal = name_of(*worker) + " refuses: " + error.message;
  return {};
}

void RemoteExperts::use(Run& run, const fabric::CallEvent& event,
                        std::span<const AnswerPart> parts) {
  const auto* y = reinterpret_cast<const float*>(event.payload.data());
  for (const AnswerPart& part : parts) {
    const auto group = run.order.run(part.expert);
    for (std::size_t i = 0; i < group.count; ++i, y += config_.hidden) {
      if (part.counts) run.sorted_outputs[group.first + i] = y;
    }
  }
  run.replies.push_back(event.call);
}

void RemoteExperts::count() {
  const DispatchStats& stats = core_.stats();
  const auto add = [](telemetry::Counter& counter, std::uint64_t now, std::uint64_t& before) {
    if (now == before) return;
    counter.add(static_cast<double>(now - before));
    before = now;
  };
  add(resends_, stats.resends, counted_.resends);
  add(hedges_, stats.hedges, counted_.hedges);
  add(late_, stats.late, counted_.late);
  add(suspects_, stats.suspects, counted_.suspects);
}

void RemoteExperts::release_replies(Run& run) {
  for (const fabric::CallId call : run.replies) client_.release(call);
  run.replies.clear();
  if (!std::ranges::all_of(runs_, [](const Run& r) { return r.replies.empty(); })) return;
  for (const fabric::DataLinkId link : parting_) client_.disconnect(link);
  parting_.clear();
}

}  // namespace conclave::dispatch
