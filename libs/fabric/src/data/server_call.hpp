// What a CallServer knows of its routers and of the calls that wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "buffer_pool.hpp"
#include "data_protocol.hpp"
#include "direct_registry.hpp"
#include "local_socket.hpp"
#include "shared_segment.hpp"

namespace conclave::fabric {

/// A router that has said hello. Calls hold it, and with it the segment in which they lie.
struct DataPeer {
  std::string name;
  std::string routing_id;  // ZeroMQ's, one a connection
  std::uint64_t incarnation = 0;
  Random128 token{};     // for the local road
  bool offered = false;  // the token can still be used
  bool gone = false;

  LocalSocket local;  // open: the road is shared
  std::uint64_t local_id = 0;
  std::optional<SharedSegment> segment;

  [[nodiscard]] Road road() const { return segment ? Road::kShared : Road::kFrames; }
};

/// A call that waits for its answer.
struct TakenCall final : ServedCall {
  Road road = Road::kFrames;
  std::shared_ptr<DataPeer> from;
  std::uint64_t request_id = 0;
  std::size_t charged_bytes = 0;  // of CallServer::Limits::bytes_max

  std::vector<CallPair> pairs_copy;  // of the shared road
  zmq::message_t payload_frame;      // a payload that came as a frame, as it came or
  Buffer payload_copy;               // moved to a cache line
  Buffer reply_buffer;               // of the road of frames
};

}  // namespace conclave::fabric
