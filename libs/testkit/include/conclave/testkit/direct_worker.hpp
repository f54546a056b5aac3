// The least that computes experts: hosts what it is given and answers direct calls, one at a time,
// on the caller's thread. For tests of those who call; the real worker is a service.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "conclave/fabric/call_server.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/expert_set.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::testkit {

/// Served as "direct://<name>" while it lives. Any thread.
class DirectWorker {
 public:
  DirectWorker(fabric::Context& context, const std::string& name, const kernels::Compute& compute,
               const wire::ModelVersion& version, const model::ModelConfig& config);
  ~DirectWorker();

  [[nodiscard]] wire::WorkerEndpoint endpoint() const;

  /// Reads the expert from the file, which must have it.
  void host(const gguf::File& file, model::ExpertId id);
  /// All that the model has.
  void host_all(const gguf::File& file);
  void drop(model::ExpertId id);

  /// The next so many calls get this error.
  void refuse(int calls, base::Error error = {base::ErrorCode::kUnavailable, "told to refuse"});
  /// Runs before each call, on the caller's thread; empty: nothing.
  void before_call(std::function<void()> action);
  /// Calls that were computed.
  [[nodiscard]] int served() const { return served_; }
  /// What the newest call carried.
  [[nodiscard]] wire::TraceContext last_trace();

 private:
  void serve(fabric::IncomingCall& call, fabric::CallServer& server);
  base::Status compute(fabric::IncomingCall& call);

  const std::string name_;
  const std::uint64_t model_key_;
  const model::ModelConfig config_;
  std::atomic<int> served_{0};

  std::mutex mutex_;  // guards what follows, but for the server
  model::ExpertSet experts_;
  int refusals_ = 0;
  base::Error refusal_;
  wire::TraceContext last_trace_;
  std::function<void()> before_call_;

  std::unique_ptr<fabric::CallServer> server_;  // last: it calls serve()
};

}  // namespace conclave::testkit
