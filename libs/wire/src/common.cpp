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

bool is_same_bytes(const ModelVersion& a, const ModelVersion& b) {
  return a.name == b.name && a.version == b.version && a.sha256 == b.sha256;
}

}  // namespace conclave::wire
