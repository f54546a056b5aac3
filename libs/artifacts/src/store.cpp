#include "conclave/artifacts/store.hpp"

#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <string>
#include <utility>

#include "cache.hpp"
#include "sequential_download.hpp"
#include "source.hpp"
#include "sparse_image.hpp"

namespace conclave::artifacts {

using base::Result;

namespace {

std::filesystem::path directory_of(const Settings& settings) {
  if (!settings.cache.empty()) return settings.cache;
  std::error_code error;
  return std::filesystem::temp_directory_path(error) /
         ("conclave-artifacts-" + std::to_string(::geteuid()));
}

}  // namespace

class Store::Impl {
 public:
  Impl(const Settings& settings, WallClock wall_clock, telemetry::Metrics& metrics,
       telemetry::Logger log)
      : cache_metrics_(metrics),
        log_(std::move(log)),
        cached_bytes_(metrics.counter("conclave_artifacts_cached_bytes_total",
                                      "Bytes of remote models that the cache had")),
        sources_(settings, std::move(wall_clock), metrics) {}

  Result<ImageContext> context() {
    const std::lock_guard lock(mutex_);
    if (!cache_) {
      CONCLAVE_TRY(cache_, Cache::open(directory_of(sources_.settings),
                                       sources_.settings.cache_bytes_max, cache_metrics_));
    }
    return ImageContext{sources_, *cache_, cached_bytes_, log_};
  }

 private:
  const CacheMetrics cache_metrics_;
  telemetry::Logger log_;
  telemetry::Counter& cached_bytes_;
  SourceContext sources_;
  std::mutex mutex_;  // guards cache_
  std::unique_ptr<Cache> cache_;
};

Store::Store(const Settings& settings, WallClock wall_clock, telemetry::Metrics& metrics,
             telemetry::Logger log)
    : impl_(std::make_unique<Impl>(settings, std::move(wall_clock), metrics, std::move(log))) {}

Store::~Store() = default;

Result<OpenModel> Store::open(std::string_view uri, std::string_view sha256, const Stop& stop) {
  CONCLAVE_TRY(const Location location, Location::parse(uri));
  if (!location.is_remote()) {
    CONCLAVE_TRY(gguf::File file, gguf::File::open(location.path()));
    return OpenModel{std::move(file), nullptr};
  }
  CONCLAVE_TRY(const ImageContext context, impl_->context());
  CONCLAVE_TRY(std::unique_ptr<SparseImage> image,
               SparseImage::open(context, location, sha256, stop));
  CONCLAVE_TRY(gguf::File file, image->open_file());
  return OpenModel{std::move(file), std::move(image)};
}

Result<std::unique_ptr<Download>> Store::download(const Location& location, Stop stop) {
  CONCLAVE_TRY(const ImageContext context, impl_->context());
  CONCLAVE_TRY(std::unique_ptr<SparseImage> image, SparseImage::open(context, location, "", stop));
  return SequentialDownload::open(std::move(image), std::move(stop));
}

}  // namespace conclave::artifacts
