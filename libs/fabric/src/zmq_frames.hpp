// Messages of several frames over a ZeroMQ socket, without exceptions and without blocking.
#pragma once

#include <cstddef>
#include <span>
#include <vector>
#include <zmq.hpp>

#include "buffer_pool.hpp"

namespace conclave::fabric {

/// What became of a message.
enum class Delivery { kSent, kNoRoom, kNoPeer };

/// Sends all frames as one message, or none of them.
Delivery send_frames(zmq::socket_t& socket, std::span<zmq::message_t> frames);

/// Takes the next message into `frames`. A message of more than `frames_max` frames is read and
/// comes without any. False: there is none.
bool receive_frames(zmq::socket_t& socket, std::vector<zmq::message_t>& frames,
                    std::size_t frames_max);

/// What a poller watches for this socket.
int descriptor_of(void* socket);

/// A frame that copies these bytes.
zmq::message_t copied_frame(std::span<const std::byte> bytes);
/// A frame of these bytes: by reference from 16 KB up, where that is faster than a copy.
zmq::message_t payload_frame(Buffer buffer);

std::span<const std::byte> frame_bytes(const zmq::message_t& frame);

}  // namespace conclave::fabric
