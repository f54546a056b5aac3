#include "expert_loader.hpp"

#include <algorithm>
#include <deque>
#include <iterator>
#include <new>
#include <utility>

#include "conclave/base/thread_pool.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/wire/expert.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::expert_worker {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

template <class Function>
auto within_memory(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOverloaded, "the system has no memory for it");
  }
}

}  // namespace

ExpertLoader::ExpertLoader(ExpertHost& host, artifacts::Store& store, const LoaderOptions& options,
                           std::function<void(bool)> changed, telemetry::Metrics& metrics,
                           telemetry::Logger log)
    : host_(host),
      store_(store),
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

void ExpertLoader::assign(Assignments assignments) {
  {
    const std::lock_guard lock(mutex_);
    if (assignments.front().epoch <= epoch_) return;
    epoch_ = assignments.front().epoch;
    next_ = std::move(assignments);
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
  return stop_ || !next_.empty();
}

// The newest assignments, or after a while those before if something of them failed; false: the
// end.
bool ExpertLoader::next(Assignments& assignments) {
  std::unique_lock lock(mutex_);
  const auto is_wanted = [this] { return stop_ || !next_.empty(); };
  if (!assignments.empty() && !problem_.empty()) {
    wanted_.wait_for(lock, options_.retry, is_wanted);
  } else {
    wanted_.wait(lock, is_wanted);
  }
  if (!next_.empty()) assignments = std::exchange(next_, {});
  return !stop_;
}

void ExpertLoader::work() {
  Assignments assignments;
  while (next(assignments)) apply(assignments);
}

// The end of assignments, unless the next ones are there already.
void ExpertLoader::settle(std::string problem) {
  {
    const std::lock_guard lock(mutex_);
    if (next_.empty()) problem_ = std::move(problem);
  }
  changed_(true);
}

// What is dropped first makes room for the rest, and one version that fails keeps no other back.
void ExpertLoader::apply(const Assignments& assignments) {
  close_unlisted(assignments);
  for (const wire::Assignment& assignment : assignments) drop_unlisted(assignment);
  std::string problem;
  for (const wire::Assignment& assignment : assignments) {
    if (assignment.model.version == 0) continue;
    std::string one = apply(assignment);
    if (superseded()) return;
    if (problem.empty()) problem = std::move(one);
  }
  settle(std::move(problem));
}

std::string ExpertLoader::apply(const wire::Assignment& assignment) {
  const auto opened = open(assignment.model);
  if (!opened) {
    log_.error("model_refused", {{"model", assignment.model.name},
                                 {"uri", assignment.model.uri},
                                 {"error", opened.error().to_string()}});
    return "cannot open " + assignment.model.uri + ": " + opened.error().message;
  }
  Work work{**opened, missing(assignment), 0, 0, {}, {}};
  if (const Status loaded = load_all(work); !loaded) {
    log_.error("assignment_refused", {{"error", loaded.error().to_string()}});
    return loaded.error().message;
  }
  if (superseded()) return {};
  keep_refused(assignment.model, std::move(work.refused));
  log_.info("assignment_applied", {{"epoch", assignment.epoch},
                                   {"model", assignment.model.name},
                                   {"version", assignment.model.version},
                                   {"experts", assignment.experts.size()},
                                   {"refused", work.failed},
                                   {"bytes", host_.bytes()}});
  if (work.failed == 0) return {};
  log_.error("experts_refused",
             {{"experts", work.failed}, {"first", work.first_error.to_string()}});
  return std::to_string(work.failed) + " experts refused: " + work.first_error.message;
}

void ExpertLoader::close_unlisted(const Assignments& assignments) {
  std::erase_if(models_, [&](const auto& entry) {
    const bool is_listed = std::any_of(assignments.begin(), assignments.end(),
                                       [&](const wire::Assignment& assignment) {
                                         return wire::model_key_of(assignment.model) == entry.first;
                                       });
    if (is_listed) return false;
    host_.close(entry.second->version);
    {
      const std::lock_guard lock(mutex_);
      forget_refused(entry.second->version);
    }
    log_.info("model_closed",
              {{"model", entry.second->version.name}, {"version", entry.second->version.version}});
    return true;
  });
}

std::vector<wire::AssignedExpert> ExpertLoader::missing(const wire::Assignment& assignment) const {
  const wire::ExpertBits hosted = host_.ready(assignment.model);
  std::vector<wire::AssignedExpert> experts;
  for (const wire::AssignedExpert& expert : assignment.experts) {
    if (!hosted.test(expert.layer, expert.index)) experts.push_back(expert);
  }
  return experts;
}

// All of them in one run of memory. What has no size gets its error when it is loaded.
Status ExpertLoader::load_all(Work& work) {
  std::uint64_t bytes = 0;
  for (const wire::AssignedExpert& expert : work.experts) {
    bytes +=
        model::packed_expert_bytes(work.model.file, work.model.config, {expert.layer, expert.index})
            .value_or(0);
  }
  if (options_.check_memory) CONCLAVE_TRY_VOID(options_.check_memory(bytes));
  base::Arena arena(bytes);
  std::mutex mutex;  // guards `work` and calls of changed_
  base::ThreadPool pool(host_.size() == 0 ? options_.threads : 1);
  std::deque<Aside> asides;  // one for each of the pool's threads
  while (asides.size() < pool.threads()) asides.emplace_back(options_.nice, log_);
  pool.for_each(work.experts.size(), [&](std::size_t i, unsigned thread) {
    if (superseded()) return;
    const wire::AssignedExpert& expert = work.experts[i];
    const Status status = load(work.model, expert, arena, asides[thread]);
    if (!status && superseded()) return;  // it may have been given up for that
    const std::lock_guard lock(mutex);
    if (!status) return note_failure(work, expert, status.error());
    loaded_.add();
    ++work.loaded;
    note_progress(work);
    changed_(false);
  });
  work.model.file.forget();
  return {};
}

// Under load_all()'s mutex. Wrong bytes are the file's fault and worth a record; no room is not.
void ExpertLoader::note_failure(Work& work, const wire::AssignedExpert& expert,
                                const base::Error& error) const {
  refused_.add();
  if (error.code == ErrorCode::kCorruptData && work.refused.size() < wire::kRefusedMax) {
    work.refused.push_back({work.model.version, expert.layer, expert.index, error.message});
  }
  if (work.failed++ != 0) return;
  work.first_error = error.within("expert (" + std::to_string(expert.layer) + ", " +
                                  std::to_string(expert.index) + ")");
}

// What was missing has all been tried, so of this version nothing else is refused.
void ExpertLoader::keep_refused(const wire::ModelVersion& model,
                                std::vector<wire::RefusedExpert> refused) {
  const std::lock_guard lock(mutex_);
  forget_refused(model);
  const std::size_t room = wire::kRefusedMax - std::min(wire::kRefusedMax, refusals_.size());
  refused.resize(std::min(refused.size(), room));
  std::move(refused.begin(), refused.end(), std::back_inserter(refusals_));
}

// Under mutex_.
void ExpertLoader::forget_refused(const wire::ModelVersion& model) {
  std::erase_if(refusals_, [&](const wire::RefusedExpert& refused) {
    return is_same_bytes(refused.model, model);
  });
}

std::vector<wire::RefusedExpert> ExpertLoader::refused() const {
  const std::lock_guard lock(mutex_);
  return refusals_;
}

void ExpertLoader::note_progress(const Work& work) {
  const std::size_t percent = 100 * work.loaded / work.experts.size();
  const std::lock_guard lock(mutex_);
  if (next_.empty()) problem_ = "loading experts (" + std::to_string(percent) + " %)";
}

// The same version may have moved: then what is here stays, and the rest comes from there.
base::Result<ExpertLoader::Model*> ExpertLoader::open(const wire::ModelVersion& version) {
  const std::uint64_t key = wire::model_key_of(version);
  if (const auto known = models_.find(key);
      known != models_.end() && known->second->version == version) {
    return known->second.get();
  }
  CONCLAVE_TRY(artifacts::OpenModel file,
               store_.open(version.uri, version.sha256, [this] { return superseded(); }));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file.file));
  auto model =
      std::make_unique<Model>(Model{version, std::move(file.file), config, std::move(file.image)});
  Model* const opened = model.get();
  models_[key] = std::move(model);
  host_.open(version, config);
  return opened;
}

void ExpertLoader::drop_unlisted(const wire::Assignment& assignment) {
  const wire::ExpertBits hosted = host_.ready(assignment.model);
  wire::ExpertBits wanted(hosted.layers(), hosted.experts());
  for (const wire::AssignedExpert& expert : assignment.experts) {
    if (expert.layer < hosted.layers() && expert.index < hosted.experts()) {
      wanted.set(expert.layer, expert.index);
    }
  }
  for (std::uint32_t layer = 0; layer < hosted.layers(); ++layer) {
    for (std::uint32_t index = 0; index < hosted.experts(); ++index) {
      if (hosted.test(layer, index) && !wanted.test(layer, index)) {
        host_.erase(assignment.model, {layer, index});
      }
    }
  }
}

// What holds the host's lock is as urgent as calls, which wait for it; what comes before is not.
Status ExpertLoader::load(const Model& model, const wire::AssignedExpert& expert,
                          base::Arena& arena, Aside& aside) {
  const model::ExpertId id{expert.layer, expert.index};
  CONCLAVE_TRY(const std::size_t bytes, model::packed_expert_bytes(model.file, model.config, id));
  CONCLAVE_TRY_VOID(take_room(bytes));
  base::Result<model::Expert> read = fail(ErrorCode::kInternal, "not read");
  aside.run([&] { read = within_memory([&] { return bring(model, expert, arena); }); });
  const std::lock_guard lock(room_mutex_);
  loading_bytes_ -= bytes;
  --loading_;
  if (!read) return fail(read.error());
  return within_memory([&] { return host_.insert(model.version, id, std::move(*read)); });
}

// What was packed is needed no more.
base::Result<model::Expert> ExpertLoader::bring(const Model& model,
                                                const wire::AssignedExpert& expert,
                                                base::Arena& arena) {
  if (!model.image) return read_checked(model, expert, arena);
  CONCLAVE_TRY(const std::vector<gguf::ByteRange> ranges,
               model::expert_ranges(model.file, model.config, {expert.layer, expert.index}));
  CONCLAVE_TRY_VOID(
      model.image->fetch_expert(ranges, expert.sha256, [this] { return superseded(); }));
  auto read = read_checked(model, expert, arena);
  model.image->release(ranges);
  return read;
}

// The sum is made on the way, of the bytes that are packed.
base::Result<model::Expert> ExpertLoader::read_checked(const Model& model,
                                                       const wire::AssignedExpert& expert,
                                                       base::Arena& arena) {
  const bool is_checked = expert.sha256 != wire::Sha256{};
  model::Sha256Hasher hasher;
  CONCLAVE_TRY(model::Expert read,
               model::load_expert(model.file, model.config, {expert.layer, expert.index}, arena,
                                  is_checked ? &hasher : nullptr));
  if (is_checked && hasher.finish() != expert.sha256) {
    return fail(ErrorCode::kCorruptData,
                "its bytes in " + model.version.uri + " are not those that were registered");
  }
  return read;
}

Status ExpertLoader::take_room(std::uint64_t bytes) {
  const std::lock_guard lock(room_mutex_);
  if (options_.slots != 0 && host_.size() + loading_ >= options_.slots) {
    return fail(ErrorCode::kOverloaded,
                "all " + std::to_string(options_.slots) + " slots are taken");
  }
  const std::uint64_t taken = host_.bytes() + loading_bytes_;
  if (taken + bytes > options_.memory_bytes) {
    return fail(ErrorCode::kOverloaded, "it needs " + std::to_string(bytes) + " bytes more; " +
                                            std::to_string(taken) + " of " +
                                            std::to_string(options_.memory_bytes) + " are taken");
  }
  loading_bytes_ += bytes;
  ++loading_;
  return {};
}

}  // namespace conclave::expert_worker
