#include "conclave/testkit/placement.hpp"

#include <functional>
#include <utility>

namespace conclave::testkit {

wire::ModelVersion version_of(const std::string& path, const std::string& name,
                              std::uint32_t version) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::size_t sum = std::hash<std::string>()(name) + version;
  std::string sha256(64, '0');
  for (std::size_t i = 0; i < 16; ++i, sum >>= 4) sha256[i] = kDigits[sum & 15];
  return {name, version, path, std::move(sha256)};
}

wire::Assignment whole_assignment(std::uint64_t epoch, const wire::ModelVersion& version,
                                  const model::ModelConfig& config) {
  wire::Assignment assignment{epoch, version, {}};
  for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < config.gate.experts; ++expert) {
      assignment.experts.push_back({layer, expert, {}});
    }
  }
  return assignment;
}

wire::RoutingTable table_of(std::uint64_t epoch, const wire::ModelVersion& version,
                            const model::ModelConfig& config,
                            std::vector<wire::WorkerEndpoint> workers, const Pools& pools) {
  wire::RoutingTable table{.epoch = epoch,
                           .model = version,
                           .layers = config.layers,
                           .experts = config.gate.experts,
                           .workers = std::move(workers),
                           .first = {0},
                           .pool = {}};
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    for (std::uint32_t expert = 0; expert < config.gate.experts; ++expert) {
      if (config.has_experts(layer)) {
        const std::vector<std::uint16_t> pool = pools(layer, expert);
        table.pool.insert(table.pool.end(), pool.begin(), pool.end());
      }
      table.first.push_back(static_cast<std::uint32_t>(table.pool.size()));
    }
  }
  return table;
}

wire::RoutingTable table_of(std::uint64_t epoch, const wire::ModelVersion& version,
                            const model::ModelConfig& config, const wire::WorkerEndpoint& worker) {
  return table_of(epoch, version, config, {worker},
                  [](std::uint32_t, std::uint32_t) { return std::vector<std::uint16_t>{0}; });
}

}  // namespace conclave::testkit
