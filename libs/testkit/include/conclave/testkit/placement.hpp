// Assignments and routing tables of a whole model, as a scheduler would make them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "conclave/model/config.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::testkit {

/// A version of the file at this path; `sha256` is made of the name and the number, as nobody reads
/// the file for it.
wire::ModelVersion version_of(const std::string& path, const std::string& name = "demo",
                              std::uint32_t version = 1);

/// All routed experts, for one worker, without their sums.
wire::Assignment whole_assignment(std::uint64_t epoch, const wire::ModelVersion& version,
                                  const model::ModelConfig& config);

/// By expert: the indexes of its workers.
using Pools = std::function<std::vector<std::uint16_t>(std::uint32_t layer, std::uint32_t expert)>;

/// A table with these pools for all layers that have experts.
wire::RoutingTable table_of(std::uint64_t epoch, const wire::ModelVersion& version,
                            const model::ModelConfig& config,
                            std::vector<wire::WorkerEndpoint> workers, const Pools& pools);
/// Every expert has one worker.
wire::RoutingTable table_of(std::uint64_t epoch, const wire::ModelVersion& version,
                            const model::ModelConfig& config, const wire::WorkerEndpoint& worker);

}  // namespace conclave::testkit
