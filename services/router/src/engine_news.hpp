// What the engine's thread tells the router's actor.
#pragma once

#include <cstdint>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/wire/inference.hpp"

namespace conclave::router {

/// A stream of this router; never used twice.
using StreamKey = std::uint64_t;

/// What a step, or the end of a submission, gave: in this order for one stream.
struct EngineNews {
  struct Submitted {
    StreamKey stream = 0;
    base::Result<wire::Accepted> outcome;
  };
  std::vector<Submitted> submitted;
  std::vector<wire::StreamEvents> events;  // `stream` is a StreamKey

  [[nodiscard]] bool empty() const { return submitted.empty() && events.empty(); }
};

}  // namespace conclave::router
