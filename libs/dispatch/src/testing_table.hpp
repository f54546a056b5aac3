// Tables for tests of the pure parts: one layer, workers w0, w1, ..
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "conclave/wire/placement.hpp"

namespace conclave::dispatch::testing_table {

/// pools[e]: the workers of expert e.
inline std::shared_ptr<const wire::RoutingTable> table_of(
    std::size_t workers, const std::vector<std::vector<std::uint16_t>>& pools,
    std::uint64_t epoch = 1) {
  wire::RoutingTable table;
  table.epoch = epoch;
  table.layers = 1;
  table.experts = static_cast<std::uint32_t>(pools.size());
  for (std::size_t i = 0; i < workers; ++i) {
    const std::string name = "w" + std::to_string(i);
    table.workers.push_back({name, 1, "sim://" + name});
  }
  table.first.push_back(0);
  for (const auto& pool : pools) {
    table.pool.insert(table.pool.end(), pool.begin(), pool.end());
    table.first.push_back(static_cast<std::uint32_t>(table.pool.size()));
  }
  return std::make_shared<const wire::RoutingTable>(std::move(table));
}

}  // namespace conclave::dispatch::testing_table
