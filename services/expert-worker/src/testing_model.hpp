// For tests: a small model of the golden set, whole and by parts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conclave/engine/compute_host.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/experts.hpp"
#include "conclave/model/local_experts.hpp"
#include "conclave/testkit/placement.hpp"

namespace conclave::expert_worker {

class TestModel {
 public:
  explicit TestModel(const std::string& name)
      : path(CONCLAVE_SOURCE_DIR "/tests/golden/models/" + name + ".gguf"),
        file(*gguf::File::open(path)),
        config(*model::read_config(file)),
        version(testkit::version_of(path, name)),
        compute(*engine::ComputeHost::create(2, "")),
        whole(*model::LocalExperts::load(file, config, compute->compute(), {})) {}

  [[nodiscard]] model::Expert expert(model::ExpertId id) const {
    return *model::load_expert(file, config, id);
  }
  [[nodiscard]] std::uint32_t last_layer() const { return config.layers - 1; }
  /// Routed experts of all layers.
  [[nodiscard]] std::size_t experts() const {
    return std::size_t{config.layers - config.dense_layers} * config.gate.experts;
  }

  const std::string path;
  const gguf::File file;
  const model::ModelConfig config;
  const wire::ModelVersion version;
  const std::unique_ptr<engine::ComputeHost> compute;
  const std::unique_ptr<model::LocalExperts> whole;
};

/// Rows of numbers that nobody chose, the same for the same seed.
inline std::vector<float> some_rows(std::size_t count, std::uint32_t seed = 12345) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 8) / 8388608.0f - 1.0f;
  }
  return values;
}

/// What a router wants of one layer.
struct LayerWork {
  std::vector<float> x;
  std::size_t rows = 0;
  std::vector<model::ExpertPair> pairs;

  LayerWork(const model::ModelConfig& config, std::size_t row_count, std::uint32_t seed)
      : x(some_rows(row_count * config.hidden, seed)), rows(row_count) {
    for (std::uint32_t row = 0; row < rows; ++row) {
      for (std::uint32_t k = 0; k < config.gate.used; ++k) {
        pairs.push_back({row, (row * 3 + k * 5 + seed) % config.gate.experts});
      }
    }
  }

  /// The outputs of all pairs, one after another.
  base::Result<std::vector<float>> run(model::ExpertBackend& backend, std::uint32_t layer,
                                       std::size_t hidden) const {
    std::vector<const float*> outputs(pairs.size());
    CONCLAVE_TRY_VOID(backend.run(layer, x.data(), rows, pairs, outputs));
    std::vector<float> all;
    for (const float* output : outputs) all.insert(all.end(), output, output + hidden);
    return all;
  }
};

}  // namespace conclave::expert_worker
