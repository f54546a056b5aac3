#include "registrar.hpp"

#include <optional>
#include <utility>

namespace conclave::registry {

using base::ErrorCode;
using base::fail;

namespace {

// The state of a download, as files have theirs: an address and a strong ETag mean the same bytes
// for ever. Without one nothing says whether it has changed, but reading all of it.
std::vector<catalog::FileStamp> stamps_of(const artifacts::Download& download) {
  std::vector<catalog::FileStamp> stamps;
  for (const artifacts::Download::Part& part : download.parts()) {
    if (part.etag.empty()) return {};
    stamps.push_back({.path = part.uri + "\n" + part.etag, .size = part.size});
  }
  return stamps;
}

}  // namespace

Registrar::Registrar(artifacts::Store& store, std::unique_ptr<const catalog::SumStore> known,
                     telemetry::Metrics& metrics, Clock clock, telemetry::Logger log)
    : store_(store),
      known_(std::move(known)),
      clock_(std::move(clock)),
      log_(std::move(log)),
      bytes_(metrics.counter("conclave_registry_scanned_bytes_total",
                             "Bytes of model files read and summed")),
      // 10 ms (a model of some megabytes) to about three hours (a terabyte from a slow disk).
      seconds_(metrics.histogram("conclave_registry_scan_seconds",
                                 "Time to read and sum a model file",
                                 telemetry::exponential_buckets(0.01, 4, 11))),
      thread_([this] { work(); }) {}

void Registrar::stop() {
  std::deque<Job> jobs;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    jobs.swap(jobs_);
  }
  wanted_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (Job& job : jobs) job.done(fail(ErrorCode::kCancelled, "the registry is stopping"));
}

base::Status Registrar::scan(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return fail(ErrorCode::kCancelled, "the registry is stopping");
    if (jobs_.size() >= kWaitingMax) {
      return fail(ErrorCode::kOverloaded,
                  std::to_string(kWaitingMax) + " files wait to be registered already");
    }
    jobs_.push_back(std::move(job));
  }
  wanted_.notify_all();
  return {};
}

void Registrar::work() {
  for (;;) {
    std::optional<Job> job;
    {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job->done(read(*job));
  }
}

base::Result<catalog::ModelScan> Registrar::read(const Job& job) {
  log_.info("scan_started", {{"path", job.where.shown()}});
  const auto start = clock_();
  std::uint64_t read = 0;
  const auto go_on = [&](std::uint64_t done, std::uint64_t total) {
    bytes_.add(static_cast<double>(done - read));
    read = done;
    percent_ = static_cast<unsigned>(done * 100 / total);
    if (job.progress) job.progress(percent_);
    return !is_stopping();
  };
  auto scan = job.where.is_remote() ? read_remote(job, go_on)
                                    : catalog::scan_model(job.where.path(), job.name, go_on,
                                                          job.fresh ? nullptr : known_.get());
  percent_ = 0;
  if (scan && !scan->kept) {
    log_.warn("sums_not_kept", {{"error", scan->kept.error().to_string()}});
  }
  if (scan) seconds_.observe(std::chrono::duration<double>(clock_() - start).count());
  return scan;
}

base::Result<catalog::ModelScan> Registrar::read_remote(const Job& job,
                                                        const catalog::ScanProgress& progress) {
  CONCLAVE_TRY(const std::unique_ptr<artifacts::Download> download,
               store_.download(job.where, [this] { return is_stopping(); }));
  const std::vector<catalog::FileStamp> stamps = stamps_of(*download);
  const catalog::ScanFeed feed{
      download->file(), job.where.file_name(), stamps,
      [&download](const gguf::ByteRange& range) { return download->wait(range); },
      [&download](std::uint32_t part, std::uint64_t offset) { download->passed(part, offset); }};
  return catalog::scan_model(feed, job.name, progress, job.fresh ? nullptr : known_.get());
}

bool Registrar::is_stopping() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

}  // namespace conclave::registry
