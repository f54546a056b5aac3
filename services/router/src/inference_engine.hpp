// The thread that computes one version: takes requests, runs steps over all sequences, and hands
// out what each step gave. It also drives the data plane, so that no other thread is woken between
// a layer's gate and its experts' answers. It knows no gateway: streams are numbers here.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "conclave/fabric/calls.hpp"
#include "engine_news.hpp"
#include "served_model.hpp"
#include "stream_book.hpp"

namespace conclave::router {

struct EngineJob {
  StreamKey stream = 0;
  std::shared_ptr<const ServedModel> model;  // whose tokens the request has
  engine::SequenceRequest request;           // of choice 0
  std::uint32_t choices = 1;                 // choice i draws with seed + i
  std::vector<wire::ResumedChoice> resume;   // empty, or one for each choice, not all finished
  StreamOptions options;
};

/// All come on the engine's thread; all but `load` must be short.
struct EngineCallbacks {
  /// Loads a model, whose backbone shall have this sum, for the engine's thread; may take seconds.
  std::function<base::Result<std::unique_ptr<ModelRun>>(
      const wire::ModelVersion&, const wire::Sha256& backbone, fabric::Calls&)>
      load;
  std::function<void(EngineNews)> deliver;
  /// ready(), epoch() or lost_workers() may have changed.
  std::function<void()> changed;
};

/// Any thread. What waits for the thread
/// is bounded by whoever submits: a job and at most one cancel a stream, and one routing table.
class InferenceEngine {
 public:
  /// When a model that could not be loaded is tried again: a volume may come late.
  static constexpr std::chrono::milliseconds kRetry{10'000};

  /// Throws std::system_error if the system gives no thread.
  InferenceEngine(std::unique_ptr<fabric::Calls> client, EngineCallbacks callbacks,
                  telemetry::Logger log, telemetry::Tracer tracer = {},
                  std::chrono::milliseconds retry = kRetry);
  ~InferenceEngine();
  InferenceEngine(const InferenceEngine&) = delete;
  InferenceEngine& operator=(const InferenceEngine&) = delete;

  /// A newer routing table; older ones are dropped. Of the model in service it takes effect at
  /// once, also in a step that waits for an expert. The first one of another model makes the engine
  /// load that; sequences of the model before end with kUnavailable.
  void route(std::shared_ptr<const wire::RoutingTable> table);

  /// Answered by EngineNews::submitted: errors of Batcher::submit; kUnavailable: another model is
  /// in service. False: the engine takes nothing any more, and the job is not answered.
  [[nodiscard]] bool submit(EngineJob job);
  void cancel(StreamKey stream);

  /// The model in service; null while there is none.
  [[nodiscard]] std::shared_ptr<const ServedModel> model() const;
  /// Ok if sequences would run now.
  [[nodiscard]] base::Status ready() const;
  /// The backbone that it was to load and whose bytes are not those that were registered.
  [[nodiscard]] std::optional<wire::RefusedExpert> refused() const;
  /// The epoch of the routing table in use; 0: none.
  [[nodiscard]] std::uint64_t epoch() const;
  /// Workers that it called and cannot reach now, by name.
  [[nodiscard]] std::vector<std::string> lost_workers() const;
  /// As of the last step; counters go on over a change of models.
  [[nodiscard]] engine::BatcherStats stats() const;

  /// Ends the thread after the step it computes, or the model it loads; sequences under way end
  /// with this error, and that is delivered. join() waits for it.
  void close(base::Error why);
  /// One thread.
  void join();

  /// Ends the thread after the layer it computes, or the model it loads; sequences under way are
  /// dropped and nothing more is delivered. halt() does not wait.
  void halt();
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  using Table = std::shared_ptr<const wire::RoutingTable>;
  struct Cancel {
    StreamKey stream = 0;
  };
  using Command = std::variant<EngineJob, Cancel>;

  bool post(Command command);
  void work();
  [[nodiscard]] bool stopping() const;
  [[nodiscard]] std::optional<base::Error> closing() const;
  void follow_table();
  void serve(const wire::ModelVersion& version, const wire::Sha256& backbone);
  void drop_model(const base::Error& why);
  void take_commands();
  void obey(EngineJob& job);
  void obey(const Cancel& cancel);
  base::Result<wire::Accepted> submit_all(EngineJob& job);
  void run_step();
  bool populate();
  void wait_for_model();
  void deliver();
  void note_stats();
  void note_state();

  const std::unique_ptr<fabric::Calls> client_;
  const EngineCallbacks callbacks_;
  const telemetry::Logger log_;
  const std::chrono::milliseconds retry_;

  mutable std::mutex mutex_;  // guards all that follows, up to the next comment
  std::condition_variable wanted_;
  std::deque<Command> commands_;
  Table table_;                                 // the newest
  std::shared_ptr<const ServedModel> model_;    // of run_
  dispatch::RemoteExperts* experts_ = nullptr;  // of run_
  base::Status no_model_;                       // why there is none
  std::optional<wire::RefusedExpert> refusal_;  // see refused()
  engine::BatcherStats stats_;
  bool stop_ = false;
  std::optional<base::Error> close_;  // nothing is taken any more, and why

  // The engine's thread only.
  std::unique_ptr<ModelRun> run_;
  StreamBook streams_;
  engine::BatcherStats past_;  // totals of models that were in service before
  std::optional<wire::ModelVersion> refused_;
  Clock::time_point next_try_{};  // to load that
  bool was_ready_ = false;
  std::uint64_t old_epoch_ = 0;
  std::vector<std::string> old_lost_;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::router
