// Where services get models from: a path is opened as it is; from http(s):// and s3:// only what is
// wanted comes over, through a cache on the local disk that the services of a machine share.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string_view>

#include "conclave/artifacts/download.hpp"
#include "conclave/artifacts/image.hpp"
#include "conclave/artifacts/location.hpp"
#include "conclave/artifacts/settings.hpp"
#include "conclave/artifacts/stop.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::artifacts {

struct OpenModel {
  gguf::File file;
  std::unique_ptr<Image> image;  // null: all bytes are there
};

/// One for a process, or for a service. Any thread. The cache's directory is made when the first
/// remote model is opened. Images and downloads must not outlive it.
class Store {
 public:
  using WallClock = std::function<std::chrono::system_clock::time_point()>;

  Store(const Settings& settings, WallClock wall_clock, telemetry::Metrics& metrics,
        telemetry::Logger log);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Opens a model, with all its parts; of a remote one the headers come over, nothing else.
  /// `sha256`: of the version (64 hex digits), under which the cache knows its pieces; empty:
  /// nothing of it is kept. Errors as Location::parse, gguf::File::open and Image::fetch;
  /// kFailedPrecondition also for a cache directory that others may write to.
  base::Result<OpenModel> open(std::string_view uri, std::string_view sha256, const Stop& stop);

  /// To read all of a remote model once. Errors as open(). `stop` is asked as long as it lives.
  base::Result<std::unique_ptr<Download>> download(const Location& location, Stop stop);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::artifacts
