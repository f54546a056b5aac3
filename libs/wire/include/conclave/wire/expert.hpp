// The data plane: rows out to experts, outputs back, once a worker, layer and step. The header is a
// message; rows, pairs and outputs are raw memory beside it. Rules: schemas/expert.capnp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "conclave/base/error.hpp"
#include "conclave/base/result.hpp"
#include "conclave/wire/common.hpp"

namespace conclave::wire {

/// Which forms of the rows are in the payload, by what the layer's weights multiply with.
enum class RowForms : std::uint8_t { kQuantized = 1, kFloats = 2, kBoth = 3 };

/// router -> worker, answered by ExpertReply. Pairs are sorted by (expert, row).
struct ExpertCall {
  std::uint64_t model_key = 0;  // model_key_of() the model: no mixed-up versions
  std::uint64_t epoch = 0;      // of the routing table that chose this worker
  std::uint32_t layer = 0;
  std::uint32_t rows = 0;
  std::uint32_t pairs = 0;
  std::uint32_t hidden = 0;
  RowForms forms = RowForms::kFloats;

  friend bool operator==(const ExpertCall&, const ExpertCall&) = default;
};

/// With kOk the payload is y (pairs, hidden) float, in the order of the call's pairs.
struct ExpertReply {
  bool ok = true;
  base::Error error{};
  std::uint32_t queue_us = 0;     // from arrival to the start of computing
  std::uint32_t compute_us = 0;   // of the merged batch
  std::uint32_t batch_pairs = 0;  // pairs computed together with this call

  friend bool operator==(const ExpertReply&, const ExpertReply&) = default;
};

/// ExpertCall::model_key of a model; 0 if its SHA-256 is not known.
std::uint64_t model_key_of(const ModelVersion& model);

/// Where the parts of a call's payload are. Every part starts on a cache line.
struct CallLayout {
  std::size_t pairs = 0;        // (pairs) of {uint32 row, uint32 expert}
  std::size_t quants = 0;       // (rows, hidden) int8
  std::size_t scales = 0;       // (rows, hidden / 32) float
  std::size_t floats = 0;       // (rows, hidden) float
  std::size_t bytes = 0;        // of the whole, up to the end of the last part
  std::size_t reply_bytes = 0;  // of y
};

/// kInvalidArgument: counts are zero or beyond limits.hpp, `hidden` is no multiple of 32 although
/// the quantized form is there, or the whole is beyond kPayloadBytesMax.
base::Result<CallLayout> layout_of(const ExpertCall& call);

}  // namespace conclave::wire
