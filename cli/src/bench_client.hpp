// Sends many requests at once to one endpoint and reads their answers, in one thread: it shares the
// machine with the server that it measures.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "bench_pacer.hpp"
#include "bench_tally.hpp"
#include "conclave/base/result.hpp"
#include "conclave/http/header.hpp"

namespace conclave::cli {

/// More requests under way than that are not asked for: each has a connection, and a process has
/// 1,024 descriptors unless somebody raised it.
inline constexpr std::uint32_t kConnectionsMax = 900;

/// Keeps its connections from run to run. One thread; blocks it while it runs.
class LoadClient {
 public:
  struct Settings {
    std::string url;  // of the endpoint; http:// or https://
    std::vector<http::Header> headers;
    bool stream = true;
    std::uint64_t prompt_tokens = 0;       // of each request, if the server does not tell
    std::chrono::milliseconds timeout{0};  // of one request; 0: none
  };

  /// `number` counts the requests of this run from 0.
  using Body = std::function<std::string(std::uint64_t number)>;
  /// Called after each answer with the requests that have ended.
  using Progress = std::function<void(std::uint64_t ended)>;

  /// kUnavailable: the system gives no descriptors.
  static base::Result<LoadClient> create(Settings settings);
  LoadClient(LoadClient&&) noexcept;
  ~LoadClient();

  /// Until all that `plan` sends has been answered, or `stop` (noticed within 100 ms; what is under
  /// way is then given up). Requests that fail are counted in `tally`. Returns the seconds that it
  /// took. kUnavailable: a hundred requests in a row found no server.
  base::Result<double> run(const LoadPlan& plan, const Body& body, LoadTally& tally,
                           const std::stop_token& stop, const Progress& progress);

 private:
  class Impl;
  explicit LoadClient(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::cli
