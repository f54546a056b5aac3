#include "conclave/wire/common.hpp"

namespace conclave::wire {

std::string_view to_string(NodeRole role) {
  switch (role) {
    case NodeRole::kGateway:
      return "gateway";
    case NodeRole::kRouter:
      return "router";
    case NodeRole::kExpertWorker:
      return "expert-worker";
    case NodeRole::kScheduler:
      return "scheduler";
    case NodeRole::kRegistry:
      return "registry";
    case NodeRole::kOperator:
      return "operator";
  }
  return "unknown";
}

}  // namespace conclave::wire
