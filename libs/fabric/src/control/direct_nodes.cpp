#include "direct_nodes.hpp"

#include <utility>

#include "outbox.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

bool LaneAddress::post(std::function<void(Lane&)> task) const {
  if (lane == nullptr) return false;
  LaneItem item(std::function<void()>([task = std::move(task), to = lane] { task(*to); }));
  return core->queue.push(std::move(item));
}

base::Status DirectNodes::add(const std::string& address, LaneAddress lane) {
  const std::lock_guard lock(mutex_);
  if (lanes_.emplace(address, std::move(lane)).second) return {};
  return fail(ErrorCode::kUnavailable, address + " is in use");
}

void DirectNodes::remove(const std::string& address) {
  const std::lock_guard lock(mutex_);
  lanes_.erase(address);
}

LaneAddress DirectNodes::find(const std::string& address) const {
  const std::lock_guard lock(mutex_);
  const auto found = lanes_.find(address);
  return found == lanes_.end() ? LaneAddress{} : found->second;
}

}  // namespace conclave::fabric
