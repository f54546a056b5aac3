#include "inference_engine.hpp"

#include <algorithm>
#include <utility>

namespace conclave::router {

using base::ErrorCode;
using base::fail;
using base::Status;
using Clock = std::chrono::steady_clock;

namespace {

// How long an idle engine sleeps at most; links make progress and their states are noticed then.
constexpr std::chrono::milliseconds kIdle{100};

wire::FinishReason wire_finish(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kNone:
      return wire::FinishReason::kNone;
    case engine::FinishReason::kStop:
      return wire::FinishReason::kStop;
    case engine::FinishReason::kLength:
      return wire::FinishReason::kLength;
    case engine::FinishReason::kCancelled:
      return wire::FinishReason::kCancelled;
    case engine::FinishReason::kError:
      return wire::FinishReason::kError;
  }
  return wire::FinishReason::kError;
}

}  // namespace

InferenceEngine::InferenceEngine(fabric::CallClient& client, Load load, Deliver deliver,
                                 telemetry::Logger log)
    : client_(client),
      load_(std::move(load)),
      deliver_(std::move(deliver)),
      log_(std::move(log)),
      ready_(fail(ErrorCode::kUnavailable, "the scheduler has named no model yet")),
      thread_([this] { work(); }) {}

InferenceEngine::~InferenceEngine() { stop(); }

void InferenceEngine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wanted_.notify_all();
  client_.wake();
  if (thread_.joinable()) thread_.join();
}

void InferenceEngine::route(std::shared_ptr<const wire::RoutingTable> table) {
  post(std::move(table));
}
void InferenceEngine::submit(EngineJob job) { post(std::move(job)); }
void InferenceEngine::cancel(StreamKey stream) { post(Cancel{stream}); }

void InferenceEngine::post(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  wanted_.notify_all();
  client_.wake();
}

std::shared_ptr<const ServedModel> InferenceEngine::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

Status InferenceEngine::ready() const {
  const std::lock_guard lock(mutex_);
  return ready_;
}

engine::BatcherStats InferenceEngine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void InferenceEngine::work() {
  for (;;) {
    take_commands();
    {
      std::unique_lock lock(mutex_);
      if (stop_) break;
      if (!served_ && commands_.empty()) {
        wanted_.wait_for(lock, kIdle);
        continue;
      }
    }
    if (served_ && served_->batcher->has_work()) {
      collect(served_->batcher->step());
    } else if (served_) {
      served_->experts->maintain(Clock::now() + kIdle);
    }
    deliver();
    note_state();
  }
  // Links belong to this thread.
  const std::lock_guard lock(mutex_);
  served_.reset();
  model_.reset();
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
  deliver();
}

void InferenceEngine::obey(const Table& table) {
  if (!served_ || served_->version != table->model) {
    fail_all({ErrorCode::kUnavailable, "the model was replaced"});
    deliver();
    {
      const std::lock_guard lock(mutex_);
      model_.reset();
    }
    served_.reset();
    set_ready(fail(ErrorCode::kUnavailable, "loading " + table->model.name));
    auto loaded = load_(table->model);
    if (!loaded) {
      log_.error("model_refused",
                 {{"model", table->model.name}, {"error", loaded.error().to_string()}});
      set_ready(fail(loaded.error().within("cannot load " + table->model.uri)));
      return;
    }
    served_ = std::move(*loaded);
    log_.info("model_loaded", {{"model", table->model.name},
                               {"version", table->model.version},
                               {"backbone_bytes", served_->backbone->backbone().bytes()}});
    const std::lock_guard lock(mutex_);
    model_ = served_;
  }
  served_->experts->update(table);
}

void InferenceEngine::obey(EngineJob& job) {
  auto outcome = submit_all(job);
  news_.submitted.push_back({job.stream, std::move(outcome)});
}

base::Result<wire::Accepted> InferenceEngine::submit_all(EngineJob& job) {
  if (!served_) return fail(ErrorCode::kUnavailable, "no model is loaded");
  const std::vector<std::int32_t> prompt = job.choices.front().prompt;
  Stream stream{.logprobs = job.logprobs};
  for (engine::SequenceRequest& request : job.choices) {
    auto sequence = served_->batcher->submit(std::move(request));
    if (!sequence) {
      for (const engine::SequenceId id : stream.sequences) {
        choices_.erase(static_cast<std::uint64_t>(id));
        served_->batcher->cancel(id);
      }
      return fail(sequence.error());
    }
    choices_[static_cast<std::uint64_t>(*sequence)] = {
        job.stream, static_cast<std::uint32_t>(stream.sequences.size())};
    stream.sequences.push_back(*sequence);
  }
  stream.unfinished = stream.sequences.size();
  Stream& kept = streams_[job.stream] = std::move(stream);
  if (job.echo) {
    kept.echo.emplace(served_->backbone->tokenizer());
    // With logprobs the others follow as they are scored; the first one has none.
    const std::size_t known = job.logprobs ? 1 : prompt.size();
    for (std::size_t i = 0; i < known; ++i) echo_token(kept, job.stream, {.token = prompt[i]});
  }
  return wire::Accepted{static_cast<std::uint32_t>(prompt.size())};
}

void InferenceEngine::obey(const Cancel& cancel) {
  const auto stream = streams_.find(cancel.stream);
  if (stream == streams_.end()) return;
  for (const engine::SequenceId id : stream->second.sequences) {
    if (choices_.contains(static_cast<std::uint64_t>(id))) served_->batcher->cancel(id);
  }
}

void InferenceEngine::fail_all(const base::Error& error) {
  for (const auto& [id, choice] : choices_) {
    events_of(choice.stream)
        .tokens.push_back(
            {.choice = choice.index, .finish = wire::FinishReason::kError, .error = error});
  }
  choices_.clear();
  streams_.clear();
}

void InferenceEngine::collect(std::span<engine::TokenEvent> events) {
  for (engine::TokenEvent& event : events) collect_one(event);
}

void InferenceEngine::collect_one(engine::TokenEvent& event) {
  const auto choice = choices_.find(static_cast<std::uint64_t>(event.id));
  if (choice == choices_.end()) return;  // of a submission that was taken back
  const auto [key, index] = choice->second;
  Stream& stream = streams_.at(key);
  for (const engine::TokenLogprobs& token : event.prompt) echo_token(stream, key, token);

  const bool finished = event.finish != engine::FinishReason::kNone;
  if (event.token != tokenizer::kNoToken || finished || !event.text.empty()) {
    wire::TokenEvent out{.choice = index,
                         .token = event.token,
                         .text = std::move(event.text),
                         .finish = wire_finish(event.finish),
                         .error = std::move(event.error)};
    if (stream.logprobs && event.token != tokenizer::kNoToken) {
      out.logprob = event.logprob;
      out.piece = piece(event.token);
      out.top = top_of(event.top);
    }
    events_of(key).tokens.push_back(std::move(out));
  }
  if (!finished) return;
  choices_.erase(choice);
  if (--stream.unfinished == 0) streams_.erase(key);
}

void InferenceEngine::echo_token(Stream& stream, StreamKey key,
                                 const engine::TokenLogprobs& token) {
  if (!stream.echo) return;
  wire::TokenEvent out{
      .token = token.token, .logprob = token.logprob, .text = stream.echo->push(token.token)};
  if (stream.logprobs) {
    out.piece = piece(token.token);
    out.top = top_of(token.top);
  }
  events_of(key).prompt.push_back(std::move(out));
}

std::string InferenceEngine::piece(std::int32_t token) const {
  return std::string(served_->backbone->tokenizer().piece(token));
}

std::vector<wire::TokenChoice> InferenceEngine::top_of(
    const std::vector<engine::TokenLogprob>& top) const {
  std::vector<wire::TokenChoice> choices;
  choices.reserve(top.size());
  for (const engine::TokenLogprob& token : top) {
    choices.push_back({token.id, token.logprob, piece(token.id)});
  }
  return choices;
}

wire::StreamEvents& InferenceEngine::events_of(StreamKey stream) {
  const auto [at, is_new] = news_at_.try_emplace(stream, news_.events.size());
  if (is_new) news_.events.push_back({.stream = stream});
  return news_.events[at->second];
}

void InferenceEngine::deliver() {
  if (news_.submitted.empty() && news_.events.empty()) return;
  news_at_.clear();
  deliver_(std::exchange(news_, {}));
}

void InferenceEngine::note_state() {
  if (!served_) return;
  Status status = served_->experts->reachable();
  const engine::BatcherStats stats = served_->batcher->stats();
  const std::lock_guard lock(mutex_);
  ready_ = std::move(status);
  stats_ = stats;
}

void InferenceEngine::set_ready(Status status) {
  const std::lock_guard lock(mutex_);
  ready_ = std::move(status);
}

}  // namespace conclave::router
