// Which lanes of this process take links without a socket, by address (direct://name).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::fabric {

class Lane;
struct NodeCore;

/// Where a lane of this process takes tasks.
struct LaneAddress {
  std::shared_ptr<NodeCore> core;
  Lane* lane = nullptr;  // alive as long as its queue takes anything

  /// False: the lane has ended, or there is none.
  [[nodiscard]] bool post(std::function<void(Lane&)> task) const;
};

/// Any thread.
class DirectNodes {
 public:
  /// kUnavailable: the address is in use.
  base::Status add(const std::string& address, LaneAddress lane);
  void remove(const std::string& address);
  /// No lane: nobody listens.
  [[nodiscard]] LaneAddress find(const std::string& address) const;

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, LaneAddress> lanes_;
};

}  // namespace conclave::fabric
