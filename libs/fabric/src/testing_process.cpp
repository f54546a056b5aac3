#include "testing_process.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <array>
#include <utility>

namespace conclave::fabric::testing {

using wire::FrameKind;
using wire::NodeRole;

KeyDirectory::KeyDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "conclave-keys-XXXXXX").string();
  EXPECT_NE(::mkdtemp(name.data()), nullptr);
  path_ = name;
  EXPECT_TRUE(write_keys(path_));
}

KeyDirectory::~KeyDirectory() { std::filesystem::remove_all(path_); }

KeyRing KeyDirectory::ring(NodeRole role) const { return KeyRing::load(path_, role).value(); }

TestContext::TestContext(std::optional<KeyRing> keys) {
  telemetry::LogSettings settings;
  settings.level = telemetry::Level::kDebug;
  settings.format = telemetry::LogFormat::kJson;
  auto log = telemetry::Logger::create(
      "test", settings, [this](std::string_view line) { lines_.add(std::string(line)); },
      [] { return std::chrono::system_clock::time_point(); });
  context_ = Context::create(std::move(keys), std::move(log), metrics_).value();
}

double TestContext::refusals(Refusal reason) {
  return value("conclave_fabric_refused_total", {{"reason", std::string(to_string(reason))}});
}

double TestContext::wait_refused(Refusal reason) {
  const std::string part = "\"reason\":\"" + std::string(to_string(reason)) + "\"";
  const auto line = lines_.wait([&](const std::string& text) {
    return text.find("\"event\":\"refused\"") != std::string::npos &&
           text.find(part) != std::string::npos;
  });
  EXPECT_TRUE(line) << "nothing was refused as " << to_string(reason);
  return refusals(reason);
}

double TestContext::value(const std::string& name, const telemetry::Labels& labels, bool gauge) {
  return gauge ? metrics_.gauge(name, "", labels).value()
               : metrics_.counter(name, "", labels).value();
}

NodeSettings quick_settings() {
  NodeSettings settings;
  settings.heartbeat_ms = 100;
  settings.peer_timeout_ms = 600'000;
  settings.reconnect_ms = 10;
  return settings;
}

TestNode::TestNode(TestContext& context, NodeIdentity identity, const NodeSettings& settings,
                   WallClock wall_clock)
    : system_(std::make_unique<caf::actor_system>(config_)),
      node_(Node::create(context.get(), *system_, std::move(identity), settings,
                         std::move(wall_clock))
                .value()) {
  node_->on_link([this](const LinkEvent& event) { events_.add(event); });
}

TestNode::~TestNode() {
  node_->stop(std::chrono::milliseconds{100});
  system_.reset();
}

LinkEvent TestNode::wait_up() {
  const auto event = events_.wait([](const LinkEvent& e) { return e.up; });
  EXPECT_TRUE(event) << "no link came up";
  return event.value_or(LinkEvent{});
}

LinkEvent TestNode::wait_down() {
  const auto event = events_.wait([](const LinkEvent& e) { return !e.up; });
  EXPECT_TRUE(event) << "no link went down";
  return event.value_or(LinkEvent{});
}

RawPeer::RawPeer(const std::string& address, const std::string& server_key, const KeyPair* keys)
    : socket_(*context_, zmq::socket_type::dealer) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.set(zmq::sockopt::rcvhwm, 1);  // what the test does not read stays with the sender
  socket_.set(zmq::sockopt::rcvtimeo,
              static_cast<int>(std::chrono::milliseconds(kPatience).count()));
  if (keys != nullptr) {
    socket_.set(zmq::sockopt::curve_serverkey, server_key);
    socket_.set(zmq::sockopt::curve_publickey, keys->public_key);
    socket_.set(zmq::sockopt::curve_secretkey, keys->secret_key);
  }
  socket_.connect(address);
}

void RawPeer::send_frames(const std::vector<wire::Bytes>& frames) {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const bool more = i + 1 < frames.size();
    socket_.send(zmq::buffer(frames[i]), more ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

void RawPeer::send(const wire::Envelope& envelope, const wire::Message& message) {
  wire::Envelope head = envelope;
  if (head.type == 0) head.type = wire::type_of(message);
  if (head.incarnation == 0) head.incarnation = incarnation_;
  std::vector<wire::Bytes> frames{wire::encode(head)};
  if (head.type != 0) frames.push_back(wire::encode(message));
  send_frames(frames);
}

void RawPeer::link(const NodeIdentity& self) {
  incarnation_ = self.incarnation;
  wire::Envelope hello;
  hello.kind = FrameKind::kHello;
  send(hello, wire::Hello{self.name, self.role, self.incarnation});
  EXPECT_TRUE(receive(FrameKind::kWelcome));
}

std::optional<std::pair<wire::Envelope, wire::Message>> RawPeer::receive_any() {
  std::vector<zmq::message_t> frames;
  do {
    zmq::message_t frame;
    if (!socket_.recv(frame)) return std::nullopt;
    frames.push_back(std::move(frame));
  } while (frames.back().more());
  const auto bytes = [&](std::size_t i) {
    return std::span(frames[i].data<const std::byte>(), frames[i].size());
  };
  const auto envelope = wire::decode_envelope(bytes(0));
  if (!envelope) return std::nullopt;
  wire::Message message;
  if (frames.size() > 1) message = wire::decode(envelope->type, bytes(1)).value();
  return std::pair(*envelope, std::move(message));
}

std::optional<std::pair<wire::Envelope, wire::Message>> RawPeer::receive() {
  for (;;) {
    auto got = receive_any();
    if (!got || got->first.kind != FrameKind::kHeartbeat) return got;
  }
}

std::optional<std::pair<wire::Envelope, wire::Message>> RawPeer::receive(FrameKind kind) {
  for (;;) {
    auto got = receive_any();
    if (!got || got->first.kind == kind) return got;
  }
}

}  // namespace conclave::fabric::testing
