#include "inference_engine.hpp"

#include <cstdint>
#include <utility>

#include "conclave/devices/memory_limit.hpp"

namespace conclave::router {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

// How long an idle engine sleeps at most; links make progress and their states are noticed then.
constexpr std::chrono::milliseconds kIdle{100};

// What the KV cache leaves to others when its memory is taken ahead.
constexpr std::uint64_t kSpareBytes = std::uint64_t{1} << 30;

engine::BatcherStats sum(const engine::BatcherStats& past, engine::BatcherStats now) {
  now.add_totals(past);
  return now;
}

}  // namespace

InferenceEngine::InferenceEngine(std::unique_ptr<fabric::Calls> client, EngineCallbacks callbacks,
                                 telemetry::Logger log, telemetry::Tracer tracer,
                                 std::chrono::milliseconds retry)
    : client_(std::move(client)),
      callbacks_(std::move(callbacks)),
      log_(std::move(log)),
      retry_(retry),
      no_model_(fail(ErrorCode::kUnavailable, "the scheduler has named no model yet")),
      streams_(std::move(tracer)),
      thread_([this] { work(); }) {}

InferenceEngine::~InferenceEngine() { stop(); }

// ---- any thread ----

void InferenceEngine::halt() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (experts_ != nullptr) experts_->stop();
  }
  wanted_.notify_all();
  client_->wake();
}

void InferenceEngine::stop() {
  halt();
  join();
}

void InferenceEngine::join() {
  if (thread_.joinable()) thread_.join();
}

void InferenceEngine::close(base::Error why) {
  {
    const std::lock_guard lock(mutex_);
    close_ = std::move(why);
  }
  wanted_.notify_all();
  client_->wake();
}

void InferenceEngine::route(Table table) {
  {
    const std::lock_guard lock(mutex_);
    if (table_ && table->epoch <= table_->epoch) return;
    table_ = std::move(table);
    if (model_ && is_same_bytes(model_->version, table_->model)) return experts_->update(table_);
  }
  wanted_.notify_all();
  client_->wake();
}

bool InferenceEngine::submit(EngineJob job) { return post(std::move(job)); }
void InferenceEngine::cancel(StreamKey stream) { post(Cancel{stream}); }

bool InferenceEngine::post(Command command) {
  {
    const std::lock_guard lock(mutex_);
    if (close_) return false;
    commands_.push_back(std::move(command));
  }
  wanted_.notify_all();
  client_->wake();
  return true;
}

std::shared_ptr<const ServedModel> InferenceEngine::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

Status InferenceEngine::ready() const {
  const std::lock_guard lock(mutex_);
  return experts_ != nullptr ? experts_->reachable() : no_model_;
}

std::optional<wire::RefusedExpert> InferenceEngine::refused() const {
  const std::lock_guard lock(mutex_);
  return refusal_;
}

std::uint64_t InferenceEngine::epoch() const {
  const std::lock_guard lock(mutex_);
  return experts_ != nullptr ? experts_->epoch() : 0;
}

std::vector<std::string> InferenceEngine::lost_workers() const {
  std::vector<std::string> lost;
  const std::lock_guard lock(mutex_);
  if (experts_ == nullptr) return lost;
  for (wire::WorkerEndpoint& worker : experts_->lost_workers()) {
    lost.push_back(std::move(worker.node));
  }
  return lost;
}

engine::BatcherStats InferenceEngine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

bool InferenceEngine::stopping() const {
  const std::lock_guard lock(mutex_);
  return stop_;
}

std::optional<base::Error> InferenceEngine::closing() const {
  const std::lock_guard lock(mutex_);
  return close_;
}

// ---- the engine's thread ----

void InferenceEngine::work() {
  while (!stopping()) {
    if (const auto why = closing()) {
      drop_model(*why);
      take_commands();  // those that came before
      break;
    }
    follow_table();
    take_commands();
    if (!run_) {
      wait_for_model();
    } else if (run_->batcher->has_work()) {
      run_step();
    } else {
      const bool goes_on = populate();
      run_->experts->maintain(goes_on ? Clock::now() : Clock::now() + kIdle);
    }
    if (stopping()) break;  // what a step said that was cut short is not true
    note_stats();
    deliver();
    note_state();
  }
  drop_model({ErrorCode::kUnavailable, "the router stops"});
}

// Loads the model that the newest table names, if it is another one than is here.
void InferenceEngine::follow_table() {
  Table table;
  {
    const std::lock_guard lock(mutex_);
    if (!table_ || (model_ && is_same_bytes(model_->version, table_->model))) return;
    table = table_;
  }
  if (table->model == refused_ && Clock::now() < next_try_) return;
  serve(table->model, table->backbone);
}

void InferenceEngine::serve(const wire::ModelVersion& version, const wire::Sha256& backbone) {
  if (run_) drop_model({ErrorCode::kUnavailable, "the model was replaced"});
  if (version != refused_) {
    const std::lock_guard lock(mutex_);
    no_model_ = fail(ErrorCode::kUnavailable, "loading " + version.name);
  }
  auto loaded = callbacks_.load(version, backbone, *client_);
  if (!loaded) {
    log_.error("model_refused", {{"model", version.name},
                                 {"version", version.version},
                                 {"error", loaded.error().to_string()}});
    refused_ = version;
    next_try_ = Clock::now() + retry_;
    {
      const std::lock_guard lock(mutex_);
      no_model_ = fail(loaded.error().within("cannot load " + version.uri));
      refusal_.reset();
      if (loaded.error().code == ErrorCode::kCorruptData) {
        refusal_ = {version, wire::RefusedExpert::kBackbone, wire::RefusedExpert::kBackbone,
                    loaded.error().message};
      }
    }
    callbacks_.changed();
    return;
  }
  refused_.reset();
  run_ = std::move(*loaded);
  log_.info("model_loaded", {{"model", version.name},
                             {"version", version.version},
                             {"backbone_bytes", run_->model->backbone->backbone().bytes()}});
  const std::lock_guard lock(mutex_);
  refusal_.reset();
  model_ = run_->model;
  experts_ = run_->experts.get();
  if (is_same_bytes(table_->model, version)) experts_->update(table_);
}

void InferenceEngine::drop_model(const base::Error& why) {
  {
    const std::lock_guard lock(mutex_);
    model_.reset();
    experts_ = nullptr;
    no_model_ = fail(why);
    if (run_) past_ = sum(past_, run_->batcher->stats());
    stats_ = sum(past_, {});
  }
  streams_.fail_all(why);
  run_.reset();
}

void InferenceEngine::take_commands() {
  std::deque<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) {
    std::visit([this](auto& what) { obey(what); }, command);
  }
  deliver();  // before the next step, which may be long
}

void InferenceEngine::obey(EngineJob& job) {
  auto outcome = submit_all(job);
  streams_.submitted(job.stream, std::move(outcome));
}

base::Result<wire::Accepted> InferenceEngine::submit_all(EngineJob& job) {
  if (!run_ || job.model != run_->model) {
    return fail(ErrorCode::kUnavailable, "the model was replaced");
  }
  std::vector<StreamBook::Running> sequences;
  for (std::uint32_t choice = 0; choice < job.choices; ++choice) {
    engine::SequenceRequest request = job.request;
    if (!job.resume.empty()) {
      if (job.resume[choice].finished) continue;
      request.generated = std::move(job.resume[choice].tokens);
    }
    request.sampling.seed += choice;
    request.prompt_logprobs = choice == 0 && job.options.echo && job.options.logprobs;
    auto sequence = run_->batcher->submit(std::move(request));
    if (!sequence) {
      for (const StreamBook::Running& begun : sequences) run_->batcher->cancel(begun.sequence);
      return fail(sequence.error());
    }
    sequences.push_back({choice, *sequence});
  }
  streams_.open(job.stream, sequences, job.request.prompt, job.options,
                run_->model->backbone->tokenizer());
  return wire::Accepted{.prompt_tokens = static_cast<std::uint32_t>(job.request.prompt.size()),
                        .max_tokens = job.request.max_tokens,
                        .version = job.model->version.version};
}

void InferenceEngine::obey(const Cancel& cancel) {
  if (!run_) return;
  for (const engine::SequenceId id : streams_.running(cancel.stream)) run_->batcher->cancel(id);
}

void InferenceEngine::run_step() {
  run_->experts->trace(streams_.begin_step());
  const Clock::time_point begin = Clock::now();
  const std::span<engine::TokenEvent> events = run_->batcher->step();
  const Clock::duration took = Clock::now() - begin;
  for (engine::TokenEvent& event : events) streams_.collect(event);
  run_->batcher->step_took(took);
  streams_.end_step();
}

// Takes some memory of the KV cache ahead; true if there may be more to take. Not before the
// experts are there, which may be loaded on this machine right now, and not what others will need.
bool InferenceEngine::populate() {
  const engine::BatcherStats stats = run_->batcher->stats();
  if (!was_ready_ || stats.kv_tokens_populated == stats.kv_tokens_max) return false;
  return devices::available_memory().value_or(0) >= kSpareBytes && run_->batcher->populate();
}

void InferenceEngine::wait_for_model() {
  std::unique_lock lock(mutex_);
  const bool may_load = table_ && table_->model != refused_;
  if (stop_ || close_ || may_load || !commands_.empty()) return;
  wanted_.wait_for(lock, kIdle);
}

void InferenceEngine::deliver() {
  EngineNews news = streams_.take_news();
  if (!news.empty()) callbacks_.deliver(std::move(news));
}

// Before what was computed is delivered: who has seen a token finds it counted.
void InferenceEngine::note_stats() {
  if (!run_) return;
  const engine::BatcherStats stats = sum(past_, run_->batcher->stats());
  const std::lock_guard lock(mutex_);
  stats_ = stats;
}

void InferenceEngine::note_state() {
  const bool is_ready = ready().has_value();
  const std::uint64_t new_epoch = epoch();
  std::vector<std::string> lost = lost_workers();
  if (is_ready == was_ready_ && new_epoch == old_epoch_ && lost == old_lost_) return;
  old_lost_ = std::move(lost);
  was_ready_ = is_ready;
  old_epoch_ = new_epoch;
  callbacks_.changed();
}

}  // namespace conclave::router
