// What people are told of a plan.
#pragma once

#include <cstdint>
#include <string>

#include "conclave/placement/planner.hpp"

namespace conclave::placement {

/// "1.5 GiB".
std::string human(std::uint64_t bytes);

/// Counts what came out: the fewest copies of any expert, moves, bytes and drops.
void count(const PlanRequest& request, Plan& plan);

/// Why there are fewer copies than wanted: the model's size beside the room of the workers.
std::string explain_shortage(const PlanRequest& request, std::uint32_t replicas);

/// What the plan does and what for.
std::string explain_plan(const PlanRequest& request, const Plan& plan);

}  // namespace conclave::placement
