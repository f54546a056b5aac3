// A node that listens, and peers made by hand that may break the rules. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <variant>

#include "testing_process.hpp"

namespace conclave::fabric::testing {

inline constexpr const char* kAnyPort = "tcp://127.0.0.1:*";
inline const NodeIdentity kGateway{"gateway-0", wire::NodeRole::kGateway, 7};

/// A registry that listens over TCP, and peers that are made by hand.
class NodeLinksTest : public ::testing::Test {
 protected:
  NodeLinksTest() { restart(quick_settings()); }

  void restart(const NodeSettings& settings, WallClock wall_clock = {}) {
    registry_.reset();
    registry_ = std::make_unique<TestNode>(
        context_, NodeIdentity{"registry-0", wire::NodeRole::kRegistry, 1}, settings, wall_clock);
    address_ = (*registry_)->listen(kAnyPort).value();
  }

  RawPeer peer(wire::NodeRole role) {
    const KeyPair own = keys_.ring(role).own();
    return {address_, server_key_, &own};
  }
  RawPeer linked_peer(const NodeIdentity& self = kGateway) {
    RawPeer raw = peer(self.role);
    raw.link(self);
    EXPECT_EQ(registry_->wait_up().peer, self);
    return raw;
  }
  /// A request that is refused: what was sent before it has been handled when the answer is there.
  static void synchronise(RawPeer& raw, std::uint64_t id = 99) {
    wire::Envelope request;
    request.kind = wire::FrameKind::kRequest;
    request.request_id = id;
    request.target = "nobody";
    raw.send(request, wire::ResolveModel{"x"});
    const auto answer = raw.receive(wire::FrameKind::kError);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->first.request_id, id);
    EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, base::ErrorCode::kNotFound);
  }

  KeyDirectory keys_;
  const std::string server_key_ = keys_.ring(wire::NodeRole::kRegistry).own().public_key;
  TestContext context_{keys_.ring(wire::NodeRole::kRegistry)};
  std::unique_ptr<TestNode> registry_;
  std::string address_;
};

}  // namespace conclave::fabric::testing
