// For tests: what reading a small model gives.
#pragma once

#include <string>

#include "conclave/catalog/scan.hpp"

namespace conclave::registry::testing {

/// Of "m", with one layer of two experts; the sum of its file is 64 times `digit`.
inline catalog::ModelScan scan_of(char digit) {
  catalog::ModelScan scan;
  wire::ModelRecord& record = scan.record;
  record.model.name = "m";
  record.model.sha256 = std::string(64, digit);
  record.bytes = 1000;
  record.architecture = "qwen3moe";
  record.block_types = "F32";
  record.layers = scan.digests.layers = 1;
  record.experts = scan.digests.experts = 2;
  record.experts_used = 1;
  record.expert_bytes = 10;
  scan.digests.model.name = "m";
  scan.digests.backbone.fill(1);
  scan.digests.expert.resize(2);
  for (wire::Sha256& sum : scan.digests.expert) sum.fill(2);
  return scan;
}

}  // namespace conclave::registry::testing
