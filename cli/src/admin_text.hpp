// What people write of deployments and keys on a command line, as JSON of the admin API.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// "qwen@production" or "qwen:3=90", one after the other, as {"reference", "weight"}; the weight is
/// 1 where none is said. kInvalidArgument: no reference, or a weight that is no number of 1 to
/// 1,000,000.
base::Result<boost::json::array> split_of(const std::vector<std::string>& parts);

/// "GROUP", "GROUP/LAYERS" or "GROUP/LAYERS/EXPERTS" with LAYERS and EXPERTS as "7", "0-3", "4-" or
/// "*". kInvalidArgument.
base::Result<boost::json::array> pins_of(const std::vector<std::string>& rules);

/// A moment as people read it: "2025-06-15 10:30:00" in UTC; empty for 0.
std::string time_text(std::int64_t unix_ms);

/// From now: "90d", "12h", "30m". kInvalidArgument: not of that form, zero, or above ten years.
base::Result<std::int64_t> duration_ms(std::string_view text);

}  // namespace conclave::cli
