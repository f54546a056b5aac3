// Scans made up for tests: small, different where their seeds are. Test code only.
#pragma once

#include <string>

#include "conclave/catalog/scan.hpp"

namespace conclave::catalog::test {

inline ModelScan made_scan(const std::string& name, std::uint8_t seed) {
  ModelScan scan;
  wire::ModelRecord& record = scan.record;
  record.model.name = name;
  record.model.sha256 =
      std::string(62, 'e') + "0123456789abcdef"[seed >> 4] + "0123456789abcdef"[seed & 15];
  record.bytes = 1000u + seed;
  record.architecture = "qwen3moe";
  record.block_types = "Q8_0, F32";
  record.parameters = (std::uint64_t{1} << 40) + seed;
  record.context_length = 4096;
  record.layers = 3;
  record.dense_layers = 1;
  record.experts = 4;
  record.experts_used = 2;
  record.expert_bytes = 100;
  record.backbone_bytes = 200;
  scan.chat_template = "{{ messages }}";
  scan.digests.model.name = name;
  scan.digests.layers = 3;
  scan.digests.experts = 4;
  scan.digests.backbone.fill(seed);
  scan.digests.expert.resize(12);
  for (std::size_t i = 4; i < 12; ++i) {
    scan.digests.expert[i].fill(static_cast<std::uint8_t>(seed + i));
  }
  return scan;
}

}  // namespace conclave::catalog::test
