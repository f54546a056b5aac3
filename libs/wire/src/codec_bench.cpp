// Time to write and to read the messages that are sent most: with every call of an expert (envelope
// and header, both ways) and with every step (its tokens).
#include <benchmark/benchmark.h>

#include <cstring>
#include <span>
#include <vector>

#include "conclave/wire/message.hpp"

namespace {

using namespace conclave::wire;  // NOLINT: a program of its own

Envelope envelope() {
  Envelope envelope;
  envelope.kind = FrameKind::kRequest;
  envelope.type = kTypeOf<ExpertCall>;
  envelope.request_id = 123456789;
  envelope.incarnation = 987654321;
  envelope.deadline_unix_ns = 1'760'000'000'000'000'000;
  envelope.trace.trace_id[0] = 1;
  envelope.target = "inference";
  envelope.payload_bytes = 65536;
  return envelope;
}

Message expert_call() {
  ExpertCall call;
  call.model_key = 0x0123456789abcdef;
  call.epoch = 44;
  call.layer = 5;
  call.rows = 6;
  call.pairs = 24;
  call.hidden = 2048;
  return call;
}

Message expert_reply() {
  ExpertReply reply;
  reply.queue_us = 7;
  reply.compute_us = 800;
  reply.batch_pairs = 48;
  return reply;
}

// One token of each of so many streams.
Message token_events(std::size_t streams) {
  TokenEvents events;
  events.streams.resize(streams);
  for (std::size_t i = 0; i < streams; ++i) {
    events.streams[i].stream = i + 1;
    TokenEvent& event = events.streams[i].tokens.emplace_back();
    event.token = static_cast<std::int32_t>(1000 + i);
    event.text = " token";
  }
  return events;
}

// At an odd address, as ZeroMQ delivers small frames.
class Unaligned {
 public:
  explicit Unaligned(const Bytes& bytes) : memory_(bytes.size() + 1) {
    std::memcpy(memory_.data() + 1, bytes.data(), bytes.size());
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return std::span(memory_).subspan(1); }

 private:
  std::vector<std::byte> memory_;
};

void encode_envelope(benchmark::State& state) {
  const Envelope value = envelope();
  for (auto _ : state) benchmark::DoNotOptimize(encode(value).data());
}
BENCHMARK(encode_envelope);

void decode_an_envelope(benchmark::State& state) {
  const Unaligned frame(encode(envelope()));
  for (auto _ : state) benchmark::DoNotOptimize(decode_envelope(frame.bytes())->request_id);
}
BENCHMARK(decode_an_envelope);

void encode_message(benchmark::State& state, const Message& message) {
  for (auto _ : state) benchmark::DoNotOptimize(encode(message).data());
  state.counters["bytes"] = static_cast<double>(encode(message).size());
}
BENCHMARK_CAPTURE(encode_message, expert_call, expert_call());
BENCHMARK_CAPTURE(encode_message, expert_reply, expert_reply());
BENCHMARK_CAPTURE(encode_message, token_events_16, token_events(16));
BENCHMARK_CAPTURE(encode_message, token_events_256, token_events(256));

void decode_message(benchmark::State& state, const Message& message) {
  const Unaligned frame(encode(message));
  const std::uint16_t type = type_of(message);
  for (auto _ : state) benchmark::DoNotOptimize(decode(type, frame.bytes())->index());
}
BENCHMARK_CAPTURE(decode_message, expert_call, expert_call());
BENCHMARK_CAPTURE(decode_message, expert_reply, expert_reply());
BENCHMARK_CAPTURE(decode_message, token_events_16, token_events(16));
BENCHMARK_CAPTURE(decode_message, token_events_256, token_events(256));

}  // namespace
