// Why something is not as it should be, in words for people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "conclave/wire/placement.hpp"

namespace conclave::scheduler {

/// "starting", "ready", "draining".
std::string_view name_of(wire::NodeState state);

/// "expert (3, 17) has no ready worker, nor have 4 others; w1: loading experts". `missing` must not
/// be empty.
std::string missing_experts(const wire::ExpertBits& missing,
                            const std::vector<const wire::NodeReport*>& workers);

}  // namespace conclave::scheduler
