// The thread that computes: takes requests, runs steps over all sequences, and hands out what each
// step gave. It also drives the data plane, so that no other thread is woken between a layer's gate
// and its experts' answers. It knows no gateway: streams are numbers here.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "conclave/fabric/call_client.hpp"
#include "conclave/tokenizer/stream_decoder.hpp"
#include "conclave/wire/inference.hpp"
#include "served_model.hpp"

namespace conclave::router {

/// A stream of this router; never used twice.
using StreamKey = std::uint64_t;

/// What a step, or the end of a submission, gave: in this order for one stream.
struct EngineNews {
  struct Submitted {
    StreamKey stream = 0;
    base::Result<wire::Accepted> outcome;
  };
  std::vector<Submitted> submitted;
  std::vector<wire::StreamEvents> events;  // `stream` is a StreamKey
};

struct EngineJob {
  StreamKey stream = 0;
  std::vector<engine::SequenceRequest> choices;  // one sequence each, all of one prompt
  bool echo = false;                             // report the prompt's tokens
  bool logprobs = false;                         // pieces and logprobs beside the tokens
};

/// Any thread, but for the callbacks, which come on the engine's thread and must be short.
class InferenceEngine {
 public:
  /// Loads a model for the engine's thread. Empty result: none yet.
  using Load = std::function<base::Result<std::unique_ptr<ServedModel>>(const wire::ModelVersion&)>;
  using Deliver = std::function<void(EngineNews)>;

  InferenceEngine(fabric::CallClient& client, Load load, Deliver deliver, telemetry::Logger log);
  ~InferenceEngine();
  InferenceEngine(const InferenceEngine&) = delete;
  InferenceEngine& operator=(const InferenceEngine&) = delete;

  /// A newer routing table. The first one of a model makes the engine load it; sequences of the
  /// model before end with an error.
  void route(std::shared_ptr<const wire::RoutingTable> table);

  void submit(EngineJob job);
  void cancel(StreamKey stream);

  /// The model in service; null while there is none.
  [[nodiscard]] std::shared_ptr<const ServedModel> model() const;
  /// Ok if sequences would run now.
  [[nodiscard]] base::Status ready() const;
  [[nodiscard]] engine::BatcherStats stats() const;

  /// Ends the thread; sequences under way are dropped.
  void stop();

 private:
  struct Cancel {
    StreamKey stream = 0;
  };
  using Table = std::shared_ptr<const wire::RoutingTable>;
  using Command = std::variant<EngineJob, Cancel, Table>;

  struct Choice {
    StreamKey stream = 0;
    std::uint32_t index = 0;
  };
  struct Stream {
    std::vector<engine::SequenceId> sequences;  // by choice
    std::size_t unfinished = 0;
    bool logprobs = false;
    std::optional<tokenizer::StreamDecoder> echo;  // of the prompt, if that is reported
  };

  void post(Command command);
  void work();
  void take_commands();
  void obey(EngineJob& job);
  void obey(const Cancel& cancel);
  void obey(const Table& table);
  base::Result<wire::Accepted> submit_all(EngineJob& job);
  void fail_all(const base::Error& error);
  void collect(std::span<engine::TokenEvent> events);
  void collect_one(engine::TokenEvent& event);
  void echo_token(Stream& stream, StreamKey key, const engine::TokenLogprobs& token);
  [[nodiscard]] std::vector<wire::TokenChoice> top_of(
      const std::vector<engine::TokenLogprob>& top) const;
  [[nodiscard]] std::string piece(std::int32_t token) const;
  wire::StreamEvents& events_of(StreamKey stream);
  void deliver();
  void note_state();
  void set_ready(base::Status status);

  fabric::CallClient& client_;
  Load load_;
  Deliver deliver_;
  telemetry::Logger log_;

  mutable std::mutex mutex_;  // guards all that follows, up to the next comment
  std::condition_variable wanted_;
  std::deque<Command> commands_;
  std::shared_ptr<ServedModel> model_;
  base::Status ready_;
  engine::BatcherStats stats_;
  bool stop_ = false;

  // The engine's thread only.
  std::shared_ptr<ServedModel> served_;
  std::unordered_map<StreamKey, Stream> streams_;
  std::unordered_map<std::uint64_t, Choice> choices_;  // by SequenceId
  EngineNews news_;
  std::unordered_map<StreamKey, std::size_t> news_at_;  // index into news_.events

  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::router
