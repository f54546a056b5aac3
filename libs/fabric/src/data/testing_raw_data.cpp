#include "testing_raw_data.hpp"

#include <gtest/gtest.h>

#include "zmq_frames.hpp"

namespace conclave::fabric::testing {

using wire::FrameKind;
using wire::NodeRole;

namespace {

constexpr std::uint64_t kRouterIncarnation = 300;
constexpr std::uint64_t kWorkerIncarnation = 400;

void send_all(zmq::socket_t& socket, const std::vector<wire::Bytes>& frames) {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const bool more = i + 1 < frames.size();
    socket.send(zmq::buffer(frames[i]), more ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

RawMessage read(std::span<const zmq::message_t> frames) {
  RawMessage message;
  message.envelope = wire::decode_envelope(frame_bytes(frames[0])).value();
  if (frames.size() > 1) {
    message.body = wire::decode(message.envelope.type, frame_bytes(frames[1])).value();
  }
  if (frames.size() > 2) {
    const auto bytes = frame_bytes(frames[2]);
    message.payload.assign(bytes.begin(), bytes.end());
  }
  return message;
}

std::vector<wire::Bytes> frames_of(const wire::Envelope& envelope, const wire::Message& body,
                                   const wire::Bytes& payload) {
  std::vector<wire::Bytes> frames{wire::encode(envelope), wire::encode(body)};
  if (!payload.empty()) frames.push_back(payload);
  return frames;
}

}  // namespace

RawRouter::RawRouter(Ends& ends, const KeyPair& keys)
    : ends_(ends), socket_(context_, zmq::socket_type::dealer) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.set(zmq::sockopt::curve_serverkey,
              std::string(ends.keys.ring(NodeRole::kRouter).server_key(NodeRole::kExpertWorker)));
  socket_.set(zmq::sockopt::curve_publickey, keys.public_key);
  socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  socket_.connect(ends.address);
}

void RawRouter::send(const std::vector<wire::Bytes>& frames) { send_all(socket_, frames); }

void RawRouter::send(const wire::Envelope& envelope, const wire::Message& body,
                     const wire::Bytes& payload) {
  send(frames_of(envelope, body, payload));
}

RawMessage RawRouter::receive() {
  std::vector<zmq::message_t> frames;
  const bool came = ends_.pump([&] {
    while (receive_frames(socket_, frames, 3)) {
      if (wire::decode_envelope(frame_bytes(frames[0]))->kind != FrameKind::kHeartbeat) return true;
    }
    return false;
  });
  EXPECT_TRUE(came) << "no answer";
  return came ? read(frames) : RawMessage{};
}

std::optional<LocalOffer> RawRouter::link() {
  wire::Envelope hello;
  hello.kind = FrameKind::kHello;
  hello.type = wire::kTypeOf<wire::Hello>;
  send(hello, wire::Hello{"raw-router", NodeRole::kRouter, kRouterIncarnation});
  const RawMessage welcome = receive();
  EXPECT_EQ(welcome.envelope.kind, FrameKind::kWelcome);
  return decode_offer(welcome.payload);
}

wire::Envelope RawRouter::request(std::size_t payload_bytes) {
  wire::Envelope envelope;
  envelope.kind = FrameKind::kRequest;
  envelope.type = wire::kTypeOf<wire::ExpertCall>;
  envelope.request_id = next_++;
  envelope.incarnation = kRouterIncarnation;
  envelope.payload_bytes = payload_bytes;
  return envelope;
}

RawLocal::RawLocal(Ends& ends, const Random128& name) : ends_(ends) {
  auto socket = LocalSocket::connect(name);
  EXPECT_TRUE(socket) << socket.error().message;
  if (socket) socket_ = std::move(*socket);
}

bool RawLocal::send(std::span<const std::byte> bytes, int passed) {
  const std::array<std::span<const std::byte>, 1> parts{bytes};
  return socket_.send(parts, passed);
}

bool RawLocal::send(const wire::Envelope& envelope, const wire::Message& body,
                    std::uint64_t offset) {
  return send_packet(socket_, wire::encode(envelope), wire::encode(body), offset);
}

std::optional<std::vector<std::byte>> RawLocal::receive() {
  std::vector<std::byte> buffer(kPacketBytesMax);
  LocalSocket::Packet packet;
  EXPECT_TRUE(ends_.pump([&] {
    packet = socket_.receive(buffer);
    return packet.state != LocalSocket::Packet::State::kNone;
  }));
  if (packet.state == LocalSocket::Packet::State::kGone) return std::nullopt;
  return std::vector<std::byte>(packet.bytes.begin(), packet.bytes.end());
}

RawMessage RawLocal::receive_message() {
  const auto bytes = receive();
  EXPECT_TRUE(bytes);
  if (!bytes) return {};
  const auto packet = split_packet(*bytes);
  RawMessage message;
  message.envelope = wire::decode_envelope(packet->envelope).value();
  message.body = wire::decode(message.envelope.type, packet->body).value();
  return message;
}

RawWorker::RawWorker(Ends& ends, const KeyPair& keys)
    : ends_(ends), socket_(context_, zmq::socket_type::router) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.set(zmq::sockopt::curve_server, true);
  socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  socket_.bind("tcp://127.0.0.1:0");
  address_ = socket_.get(zmq::sockopt::last_endpoint);
}

RawMessage RawWorker::receive() {
  std::vector<zmq::message_t> frames;
  const bool came = ends_.pump([&] { return receive_frames(socket_, frames, 4); });
  EXPECT_TRUE(came) << "no message";
  if (!came) return {};
  peer_ = frames[0].to_string();
  return read(std::span(frames).subspan(1));
}

void RawWorker::send(const std::vector<wire::Bytes>& frames) {
  socket_.send(zmq::buffer(peer_), zmq::send_flags::sndmore);
  send_all(socket_, frames);
}

void RawWorker::send(const wire::Envelope& envelope, const wire::Message& body,
                     const wire::Bytes& payload) {
  send(frames_of(envelope, body, payload));
}

void RawWorker::link() {
  EXPECT_EQ(receive().envelope.kind, FrameKind::kHello);
  wire::Envelope welcome;
  welcome.kind = FrameKind::kWelcome;
  welcome.type = wire::kTypeOf<wire::Hello>;
  send(welcome, wire::Hello{"raw-worker", NodeRole::kExpertWorker, kWorkerIncarnation});
}

wire::Envelope RawWorker::reply_to(const RawMessage& call, std::size_t payload_bytes) {
  wire::Envelope envelope;
  envelope.kind = FrameKind::kReply;
  envelope.type = wire::kTypeOf<wire::ExpertReply>;
  envelope.request_id = call.envelope.request_id;
  envelope.incarnation = kWorkerIncarnation;
  envelope.payload_bytes = payload_bytes;
  return envelope;
}

}  // namespace conclave::fabric::testing
