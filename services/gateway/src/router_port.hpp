// What the core has done for it by whoever has links: the actor, or a test.
#pragma once

#include <string>

#include "conclave/wire/inference.hpp"
#include "router_directory.hpp"

namespace conclave::gateway {

class RouterPort {
 public:
  virtual ~RouterPort() = default;

  /// Connects until disconnect(), and says up and down through GatewayCore::link_changed(). None if
  /// the address is malformed.
  virtual std::optional<RouterId> connect(const std::string& address) = 0;
  virtual void disconnect(RouterId router) = 0;

  /// Answered, later, by GatewayCore::accepted() or refused().
  virtual void generate(RouterId router, const wire::Generate& request) = 0;
  virtual void cancel(RouterId router, const wire::CancelStream& cancel) = 0;
};

}  // namespace conclave::gateway
