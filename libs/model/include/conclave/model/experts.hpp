// The routed experts of a model as its file has them: which there are, where the bytes of one are,
// what rows its products take, and reading it. Computing is expert_set.hpp's part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "conclave/base/arena.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/linear.hpp"

namespace conclave::model {

class Sha256Hasher;

struct ExpertId {
  std::uint32_t layer = 0;
  std::uint32_t index = 0;

  friend auto operator<=>(const ExpertId&, const ExpertId&) = default;
};

/// gate, up: (ffn, hidden); down: (hidden, ffn).
struct Expert {
  Linear gate;
  Linear up;
  Linear down;

  [[nodiscard]] std::size_t bytes() const {
    return gate.weight.bytes() + up.weight.bytes() + down.weight.bytes();
  }
};

/// Where an expert's bytes are in the file: its slices of the expert tensors, weights before
/// biases. Layouts: stacked (`ffn_up_exps`), fused (`ffn_gate_up_exps`) and one
/// tensor an expert (`ffn_up.3`). kInvalidArgument: no such expert; kCorruptData: tensors missing
/// or misshapen.
base::Result<std::vector<gguf::ByteRange>> expert_ranges(const gguf::File& file,
                                                         const ModelConfig& config, ExpertId id);

/// What an expert takes of an arena; at most a few percent more than its bytes in the file. Errors
/// as `expert_ranges`.
base::Result<std::size_t> packed_expert_bytes(const gguf::File& file, const ModelConfig& config,
                                              ExpertId id);

/// Reads and packs one expert into `arena`, which it may outlive; touches no other bytes of the
/// file, and each of its own once. `hasher`, if there is one, gets its bytes in the order of
/// expert_digest. Any thread may call it. Errors as `expert_ranges`; kOverloaded: no memory.
base::Result<Expert> load_expert(const gguf::File& file, const ModelConfig& config, ExpertId id,
                                 base::Arena& arena, Sha256Hasher* hasher = nullptr);
/// The same with memory of its own.
base::Result<Expert> load_expert(const gguf::File& file, const ModelConfig& config, ExpertId id);

/// The forms in which the experts of a layer take their rows: 8 bits for block weights, floats for
/// F32, F16 and BF16. Both where experts of one layer are stored differently.
struct RowForms {
  /// Values of the 8-bit form that share a scale, the most that one of the experts wants
  /// (kernels::scale_block); 0: that form is not needed.
  std::size_t scale_block = 0;
  bool floats = false;

  [[nodiscard]] bool quantized() const { return scale_block > 0; }
  /// Adds the form that rows take where they are multiplied with weights of this type.
  void add(gguf::BlockType type);

  friend bool operator==(const RowForms&, const RowForms&) = default;
};

/// From the types of the file's tensors alone: what a router that holds no expert sends. Errors as
/// `expert_ranges`; kInvalidArgument also for a layer without routed experts.
base::Result<RowForms> row_forms(const gguf::File& file, const ModelConfig& config,
                                 std::uint32_t layer);

/// The same for all layers; a layer without routed experts needs neither form.
base::Result<std::vector<RowForms>> row_forms(const gguf::File& file, const ModelConfig& config);

/// Called now and then while loading, from one thread at a time.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

}  // namespace conclave::model
