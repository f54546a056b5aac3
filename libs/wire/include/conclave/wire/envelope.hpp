// What is in front of every message: who it is for, which request it belongs to, until when it
// matters. Schema and rules: schemas/envelope.capnp.
#pragma once

#include <cstdint>
#include <string>

#include "conclave/wire/common.hpp"

namespace conclave::wire {

enum class FrameKind : std::uint8_t {
  kRequest = 1,  // answered by kReply or kError with the same request id
  kReply = 2,
  kError = 3,      // body: ErrorBody
  kCast = 4,       // nobody answers
  kHello = 5,      // client -> server after connecting; body: Hello
  kWelcome = 6,    // server's answer; body: Hello
  kHeartbeat = 7,  // both ways; no body
  kGoodbye = 8,    // an orderly leave; no body
};

struct Envelope {
  std::uint16_t version = kWireVersion;
  FrameKind kind = FrameKind::kCast;
  std::uint16_t type = 0;             // MessageType of the body; 0: no body
  std::uint64_t request_id = 0;       // unique in the sender's incarnation; 0 for casts
  std::uint64_t incarnation = 0;      // of the sending process
  std::int64_t deadline_unix_ns = 0;  // 0: none
  TraceContext trace;
  std::string target;               // the exported actor; empty for replies and link frames
  std::uint64_t payload_bytes = 0;  // of the raw frames after the body

  friend bool operator==(const Envelope&, const Envelope&) = default;
};

/// The first message of a link, and its answer.
struct Hello {
  std::string node;
  NodeRole role = NodeRole::kOperator;
  std::uint64_t incarnation = 0;

  friend bool operator==(const Hello&, const Hello&) = default;
};

struct ErrorBody {
  base::Error error;

  friend bool operator==(const ErrorBody&, const ErrorBody&) = default;
};

}  // namespace conclave::wire
