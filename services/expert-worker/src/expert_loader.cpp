#include "expert_loader.hpp"

#include <utility>

#include "conclave/model/digest.hpp"

namespace conclave::expert_worker {

using base::ErrorCode;
using base::fail;
using base::Status;

ExpertLoader::ExpertLoader(ExpertHost& host, std::uint64_t memory_bytes,
                           std::function<void(bool)> changed, telemetry::Metrics& metrics,
                           telemetry::Logger log)
    : host_(host),
      memory_bytes_(memory_bytes),
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

void ExpertLoader::set_problem(std::string problem) {
  const std::lock_guard lock(mutex_);
  problem_ = std::move(problem);
}

bool ExpertLoader::superseded() const {
  const std::lock_guard lock(mutex_);
  return stop_ || next_.has_value();
}

std::optional<wire::Assignment> ExpertLoader::next() {
  std::unique_lock lock(mutex_);
  wanted_.wait(lock, [this] { return stop_ || next_.has_value(); });
  if (stop_) return std::nullopt;
  return std::exchange(next_, std::nullopt);
}

void ExpertLoader::work() {
  while (const auto assignment = next()) apply(*assignment);
}

void ExpertLoader::apply(const wire::Assignment& assignment) {
  if (const Status opened = open(assignment.model); !opened) {
    log_.error("model_refused", {{"model", assignment.model.name},
                                 {"uri", assignment.model.uri},
                                 {"error", opened.error().to_string()}});
    set_problem("cannot open " + assignment.model.uri + ": " + opened.error().message);
    changed_(true);
    return;
  }
  drop_unlisted(assignment);
  set_problem("loading experts");
  std::size_t failed = 0;
  std::string first_error;
  for (const wire::AssignedExpert& expert : assignment.experts) {
    if (superseded()) return;
    if (host_.ready().test(expert.layer, expert.index)) continue;
    if (const Status status = load(expert); !status) {
      refused_.add();
      log_.error("expert_refused", {{"layer", expert.layer},
                                    {"expert", expert.index},
                                    {"error", status.error().to_string()}});
      if (failed++ == 0) first_error = status.error().message;
      continue;
    }
    loaded_.add();
    changed_(false);
  }
  set_problem(failed == 0 ? "" : std::to_string(failed) + " experts refused: " + first_error);
  log_.info("assignment_applied", {{"epoch", assignment.epoch},
                                   {"experts", assignment.experts.size()},
                                   {"refused", failed},
                                   {"bytes", host_.bytes()}});
  changed_(true);
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
  const model::ExpertId id{expert.layer, expert.index};
  if (expert.sha256 != wire::Sha256{}) {
    CONCLAVE_TRY(const wire::Sha256 digest, model::expert_digest(model_->file, model_->config, id));
    if (digest != expert.sha256) {
      return fail(ErrorCode::kCorruptData,
                  "its bytes in " + model_->version.uri + " are not those that were registered");
    }
  }
  CONCLAVE_TRY(model::Expert loaded, model::load_expert(model_->file, model_->config, id));
  if (host_.bytes() + loaded.bytes() > memory_bytes_) {
    return fail(ErrorCode::kOverloaded, "it needs " + std::to_string(loaded.bytes()) +
                                            " bytes more; " + std::to_string(host_.bytes()) +
                                            " of " + std::to_string(memory_bytes_) + " are taken");
  }
  return host_.insert(id, std::move(loaded));
}

}  // namespace conclave::expert_worker
