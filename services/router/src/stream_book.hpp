// Whose sequences they are that the engine runs, and what its events mean for their streams. Knows
// neither threads nor gateways.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "conclave/engine/sequence.hpp"
#include "conclave/tokenizer/stream_decoder.hpp"
#include "conclave/wire/common.hpp"
#include "engine_news.hpp"
#include "stream_spans.hpp"

namespace conclave::router {

struct StreamOptions {
  bool echo = false;      // report the prompt's tokens
  bool logprobs = false;  // pieces and logprobs beside the tokens, of the prompt too
  wire::TraceContext trace;
};

/// One thread. Holds one entry a sequence that runs, and the news since the last take_news().
class StreamBook {
 public:
  struct Running {
    std::uint32_t choice = 0;
    engine::SequenceId sequence{};
  };

  explicit StreamBook(telemetry::Tracer tracer = {},
                      StreamSpans::Now now = std::chrono::steady_clock::now)
      : spans_(std::move(tracer), std::move(now)) {}

  /// A stream that the engine has taken on, all of one prompt; of a stream that goes on, the
  /// choices that have not finished. The tokenizer must outlive the stream.
  void open(StreamKey stream, const std::vector<Running>& sequences,
            std::span<const std::int32_t> prompt, const StreamOptions& options,
            const tokenizer::Tokenizer& tokenizer);
  /// Of every job, before its stream's events.
  void submitted(StreamKey stream, base::Result<wire::Accepted> outcome);

  /// The sequences of a stream that have not ended; none if there is no such stream.
  [[nodiscard]] std::vector<engine::SequenceId> running(StreamKey stream) const;

  /// Moves from the event. Events of sequences that are nobody's are dropped.
  void collect(engine::TokenEvent& event);
  /// All sequences end with this error.
  void fail_all(const base::Error& error);

  [[nodiscard]] EngineNews take_news();

  /// Around every step; see StreamSpans::begin_step.
  wire::TraceContext begin_step() { return spans_.begin_step(); }
  void end_step() { spans_.end_step(); }

 private:
  struct Choice {
    StreamKey stream = 0;
    std::uint32_t index = 0;
  };
  struct Stream {
    std::vector<engine::SequenceId> sequences;  // in the order of choices
    std::size_t unfinished = 0;
    bool logprobs = false;
    const tokenizer::Tokenizer* tokenizer = nullptr;
    // While the prompt is being reported: its decoder, how many of its tokens are missing, and what
    // choices gave meanwhile that need not score it, since the prompt comes first.
    std::optional<tokenizer::StreamDecoder> echo;
    std::size_t echo_missing = 0;
    std::vector<wire::TokenEvent> held;
  };
  // A hash map of its own for a scoped enum.
  struct SequenceHash {
    std::size_t operator()(engine::SequenceId id) const { return static_cast<std::size_t>(id); }
  };

  void echo_token(Stream& stream, StreamKey key, const engine::TokenLogprobs& token);
  void end_echo(Stream& stream, StreamKey key);
  void tell(Stream& stream, StreamKey key, wire::TokenEvent event);
  wire::StreamEvents& events_of(StreamKey stream);

  std::unordered_map<StreamKey, Stream> streams_;
  StreamSpans spans_;
  std::unordered_map<engine::SequenceId, Choice, SequenceHash> choices_;
  EngineNews news_;
  std::unordered_map<StreamKey, std::size_t> news_at_;  // index into news_.events
};

}  // namespace conclave::router
