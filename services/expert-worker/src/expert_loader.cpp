#include "expert_loader.hpp"

#include <new>
#include <utility>

#include "conclave/model/digest.hpp"

namespace conclave::expert_worker {

using base::ErrorCode;
using base::fail;
using base::Status;

ExpertLoader::ExpertLoader(ExpertHost& host, const LoaderOptions& options,
                           std::function<void(bool)> changed, telemetry::Metrics& metrics,
                           telemetry::Logger log)
    : host_(host),
      options_(options),
      changed_(std::move(changed)),
      log_(std::move(log)),
      loaded_(metrics.counter("conclave_expert_worker_loads_total", "Experts loaded",
                              {{"outcome", "ok"}})),
      refused_(metrics.counter("conclave_expert_worker_loads_total", "Experts loaded",
                               {{"outcome", "refused"}})),
      thread_([this] { work(); }) {}

void ExpertLoader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wanted_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ExpertLoader::assign(wire::Assignment assignment) {
  {
    const std::lock_guard lock(mutex_);
    if (assignment.epoch <= epoch_) return;
    epoch_ = assignment.epoch;
    next_ = std::move(assignment);
    problem_ = "loading experts";
  }
  wanted_.notify_all();
}

std::uint64_t ExpertLoader::epoch() const {
  const std::lock_guard lock(mutex_);
  return epoch_;
}

std::string ExpertLoader::problem() const {
  const std::lock_guard lock(mutex_);
  return problem_;
}

bool ExpertLoader::superseded() const {
  const std::lock_guard lock(mutex_);
  return stop_ || next_.has_value();
}

// The newest assignment, or after a while the one before if something of it failed; false: the end.
bool ExpertLoader::next(std::optional<wire::Assignment>& assignment) {
  std::unique_lock lock(mutex_);
  const auto is_wanted = [this] { return stop_ || next_.has_value(); };
  if (assignment && !problem_.empty()) {
    wanted_.wait_for(lock, options_.retry, is_wanted);
  } else {
    wanted_.wait(lock, is_wanted);
  }
  if (next_) assignment = std::exchange(next_, std::nullopt);
  return !stop_;
}

void ExpertLoader::work() {
  std::optional<wire::Assignment> assignment;
  while (next(assignment)) apply(*assignment);
}

// The end of an assignment, unless the next one is there already.
void ExpertLoader::settle(std::string problem) {
  {
    const std::lock_guard lock(mutex_);
    if (!next_) problem_ = std::move(problem);
  }
  changed_(true);
}

void ExpertLoader::apply(const wire::Assignment& assignment) {
  if (const Status opened = open(assignment.model); !opened) {
    log_.error("model_refused", {{"model", assignment.model.name},
                                 {"uri", assignment.model.uri},
                                 {"error", opened.error().to_string()}});
    return settle("cannot open " + assignment.model.uri + ": " + opened.error().message);
  }
  drop_unlisted(assignment);
  const wire::ExpertBits hosted = host_.ready();
  std::size_t failed = 0;
  base::Error first_error;
  for (const wire::AssignedExpert& expert : assignment.experts) {
    if (superseded()) return;
    if (hosted.test(expert.layer, expert.index)) continue;
    if (const Status status = load(expert); !status) {
      refused_.add();
      if (failed++ == 0) {
        first_error = status.error().within("expert (" + std::to_string(expert.layer) + ", " +
                                            std::to_string(expert.index) + ")");
      }
      continue;
    }
    loaded_.add();
    changed_(false);
  }
  log_.info("assignment_applied", {{"epoch", assignment.epoch},
                                   {"experts", assignment.experts.size()},
                                   {"refused", failed},
                                   {"bytes", host_.bytes()}});
  if (failed == 0) return settle("");
  log_.error("experts_refused", {{"experts", failed}, {"first", first_error.to_string()}});
  settle(std::to_string(failed) + " experts refused: " + first_error.message);
}

Status ExpertLoader::open(const wire::ModelVersion& version) {
  if (model_ && model_->version == version) return {};
  CONCLAVE_TRY(gguf::File file, gguf::File::open(version.uri));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  model_ = std::make_unique<Model>(Model{version, std::move(file), config});
  host_.open(version, config);
  return {};
}

void ExpertLoader::drop_unlisted(const wire::Assignment& assignment) {
  const model::ModelConfig& config = model_->config;
  wire::ExpertBits wanted(config.layers, config.gate.experts);
  for (const wire::AssignedExpert& expert : assignment.experts) {
    if (expert.layer < config.layers && expert.index < config.gate.experts) {
      wanted.set(expert.layer, expert.index);
    }
  }
  const wire::ExpertBits hosted = host_.ready();
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
      if (hosted.test(layer, index) && !wanted.test(layer, index)) host_.erase({layer, index});
    }
  }
}

Status ExpertLoader::load(const wire::AssignedExpert& expert) {
  try {
    return load_checked(expert);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOverloaded, "the system has no memory for it");
  }
}

Status ExpertLoader::load_checked(const wire::AssignedExpert& expert) {
  const model::ExpertId id{expert.layer, expert.index};
  CONCLAVE_TRY_VOID(check_room(0));
  if (expert.sha256 != wire::Sha256{}) {
    CONCLAVE_TRY(const wire::Sha256 digest, model::expert_digest(model_->file, model_->config, id));
    if (digest != expert.sha256) {
      return fail(ErrorCode::kCorruptData,
                  "its bytes in " + model_->version.uri + " are not those that were registered");
    }
  }
  CONCLAVE_TRY(model::Expert loaded, model::load_expert(model_->file, model_->config, id));
  CONCLAVE_TRY_VOID(check_room(loaded.bytes()));
  return host_.insert(id, std::move(loaded));
}

Status ExpertLoader::check_room(std::uint64_t bytes) const {
  if (options_.slots != 0 && host_.size() >= options_.slots) {
    return fail(ErrorCode::kOverloaded,
                "all " + std::to_string(options_.slots) + " slots are taken");
  }
  if (host_.bytes() + bytes > options_.memory_bytes) {
    return fail(ErrorCode::kOverloaded, "it needs " + std::to_string(bytes) + " bytes more; " +
                                            std::to_string(host_.bytes()) + " of " +
                                            std::to_string(options_.memory_bytes) + " are taken");
  }
  return {};
}

}  // namespace conclave::expert_worker
