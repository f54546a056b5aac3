// Words that several conversations share.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/base/error.hpp"

namespace conclave::wire {

/// Version of the envelope and of the bodies' meaning. Appending a field does not raise it.
inline constexpr std::uint16_t kWireVersion = 1;

enum class NodeRole : std::uint8_t {
  kGateway = 1,
  kRouter = 2,
  kExpertWorker = 3,
  kScheduler = 4,
  kRegistry = 5,
  kOperator = 6,  // the `conclave` command
};
inline constexpr int kNodeRoleCount = 6;

/// "gateway", "router", "expert-worker", "scheduler", "registry", "operator".
std::string_view to_string(NodeRole role);

/// W3C trace context; all zero: none.
struct TraceContext {
  std::array<std::uint8_t, 16> trace_id{};
  std::array<std::uint8_t, 8> span_id{};
  std::uint8_t flags = 0;

  [[nodiscard]] bool empty() const { return trace_id == std::array<std::uint8_t, 16>{}; }
  friend bool operator==(const TraceContext&, const TraceContext&) = default;
};

/// One immutable version of a model, as workers and routers need it.
struct ModelVersion {
  std::string name;
  std::uint32_t version = 0;  // 1, 2, ..; 0: no model
  std::string uri;            // a path on a volume that the node sees
  std::string sha256;         // of the whole file, 64 hex digits

  friend bool operator==(const ModelVersion&, const ModelVersion&) = default;
};

/// The same version, wherever it lies.
bool is_same_bytes(const ModelVersion& a, const ModelVersion& b);

using Sha256 = std::array<std::uint8_t, 32>;

}  // namespace conclave::wire
