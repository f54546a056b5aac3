#include "zmq_frames.hpp"

#include <cerrno>
#include <memory>
#include <utility>

namespace conclave::fabric {

namespace {

constexpr std::size_t kByReferenceFrom = std::size_t{16} << 10;

void free_buffer(void* /*data*/, void* hint) { delete static_cast<Buffer*>(hint); }

}  // namespace

Delivery send_frames(zmq::socket_t& socket, std::span<zmq::message_t> frames) {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < frames.size() ? ZMQ_SNDMORE : 0);
    int result = 0;
    do {
      result = zmq_msg_send(frames[i].handle(), socket.handle(), flags);
    } while (result < 0 && errno == EINTR);
    // Only the first frame chooses a peer: the others follow it, or are dropped with it.
    if (result < 0) return errno == EAGAIN ? Delivery::kNoRoom : Delivery::kNoPeer;
  }
  return Delivery::kSent;
}

bool receive_frames(zmq::socket_t& socket, std::vector<zmq::message_t>& frames,
                    std::size_t frames_max) {
  frames.clear();
  bool fits = true;
  for (bool more = true; more;) {
    zmq::message_t frame;
    int result = 0;
    do {
      result = zmq_msg_recv(frame.handle(), socket.handle(), ZMQ_DONTWAIT);
    } while (result < 0 && errno == EINTR);
    if (result < 0) return false;
    more = frame.more();
    fits = fits && frames.size() < frames_max;
    if (fits) frames.push_back(std::move(frame));
  }
  if (!fits) frames.clear();
  return true;
}

int descriptor_of(void* socket) {
  int descriptor = -1;
  std::size_t size = sizeof descriptor;
  return zmq_getsockopt(socket, ZMQ_FD, &descriptor, &size) == 0 ? descriptor : -1;
}

zmq::message_t copied_frame(std::span<const std::byte> bytes) {
  return {bytes.data(), bytes.size()};
}

zmq::message_t payload_frame(Buffer buffer) {
  const std::span<std::byte> bytes = buffer.bytes();
  if (bytes.size() < kByReferenceFrom) return copied_frame(bytes);
  auto held = std::make_unique<Buffer>(std::move(buffer));
  return {bytes.data(), bytes.size(), free_buffer, held.release()};
}

std::span<const std::byte> frame_bytes(const zmq::message_t& frame) {
  return {static_cast<const std::byte*>(frame.data()), frame.size()};
}

}  // namespace conclave::fabric
