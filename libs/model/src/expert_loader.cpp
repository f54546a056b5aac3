// Finds the tensors of an expert in the layouts that converters have written over the years.
#include <string>
#include <utility>

#include "conclave/model/experts.hpp"
#include "tensor_reader.hpp"

namespace conclave::model {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

// A run of rows of a tensor: one projection of one expert.
struct Slice {
  const gguf::TensorInfo* tensor = nullptr;
  std::uint64_t first_row = 0;
  std::uint64_t outputs = 0;
  std::uint64_t inputs = 0;
};

struct Projection {
  Slice weight;
  Slice bias;  // one row of (outputs, experts), or no tensor
};

struct ExpertTensors {
  Projection gate;
  Projection up;
  Projection down;
};

class Finder {
 public:
  Finder(const gguf::File& file, const ModelConfig& config, ExpertId id)
      : tensors_(file), config_(config), id_(id) {}

  Result<ExpertTensors> find() const {
    const std::uint64_t hidden = config_.hidden;
    const std::uint64_t ffn = config_.expert_ffn;
    ExpertTensors found;
    if (tensors_.has(name("ffn_gate_up_exps.weight"))) {
      CONCLAVE_TRY(const Slice both, stacked("ffn_gate_up_exps", hidden, 2 * ffn));
      found.gate.weight = found.up.weight = both;
      found.gate.weight.outputs = found.up.weight.outputs = ffn;
      found.up.weight.first_row += ffn;  // the gate's rows come first
      if (tensors_.has(name("ffn_gate_up_exps.bias"))) {
        CONCLAVE_TRY(const auto* bias, tensors_.expect(name("ffn_gate_up_exps.bias"),
                                                       {2 * ffn, config_.gate.experts}));
        found.gate.bias = {bias, 2 * std::uint64_t{id_.index}, 1, ffn};
        found.up.bias = {bias, 2 * std::uint64_t{id_.index} + 1, 1, ffn};
      }
    } else {
      CONCLAVE_TRY(found.gate, projection("ffn_gate", hidden, ffn));
      CONCLAVE_TRY(found.up, projection("ffn_up", hidden, ffn));
    }
    CONCLAVE_TRY(found.down, projection("ffn_down", ffn, hidden));
    return found;
  }

 private:
  std::string name(const std::string& tensor) const { return block_name(id_.layer, tensor); }

  Result<Slice> stacked(const std::string& tensor, std::uint64_t inputs,
                        std::uint64_t outputs) const {
    CONCLAVE_TRY(
        const gguf::TensorInfo* info,
        tensors_.expect(name(tensor + ".weight"), {inputs, outputs, config_.gate.experts}));
    return Slice{info, outputs * id_.index, outputs, inputs};
  }

  Result<Projection> projection(const std::string& base_name, std::uint64_t inputs,
                                std::uint64_t outputs) const {
    Projection found;
    // Mixtral files of 2023: one tensor an expert.
    const std::string single = name(base_name + "." + std::to_string(id_.index) + ".weight");
    if (tensors_.has(single)) {
      CONCLAVE_TRY(const gguf::TensorInfo* info, tensors_.expect(single, {inputs, outputs}));
      found.weight = {info, 0, outputs, inputs};
      return found;
    }
    CONCLAVE_TRY(found.weight, stacked(base_name + "_exps", inputs, outputs));
    const std::string bias = name(base_name + "_exps.bias");
    if (tensors_.has(bias)) {
      CONCLAVE_TRY(const auto* info, tensors_.expect(bias, {outputs, config_.gate.experts}));
      found.bias = {info, id_.index, 1, outputs};
    }
    return found;
  }

  TensorTable tensors_;
  const ModelConfig& config_;
  ExpertId id_;
};

Result<ExpertTensors> find_tensors(const gguf::File& file, const ModelConfig& config, ExpertId id) {
  if (id.layer < config.dense_layers || id.layer >= config.layers ||
      id.index >= config.gate.experts) {
    return fail(ErrorCode::kInvalidArgument,
                "no expert " + std::to_string(id.index) + " in layer " + std::to_string(id.layer));
  }
  return Finder(file, config, id).find();
}

Result<gguf::ByteRange> range_of(const Slice& slice) {
  const auto row = gguf::bytes_of(slice.tensor->type, slice.inputs);
  if (!row) {
    return fail(ErrorCode::kCorruptData, "rows of " + slice.tensor->name + " are no whole blocks");
  }
  return gguf::ByteRange{slice.tensor->range.part,
                         slice.tensor->range.offset + slice.first_row * *row, slice.outputs * *row};
}

Result<std::size_t> packed_bytes_of(const Slice& slice) {
  const auto bytes =
      kernels::packed_bytes(slice.tensor->type, static_cast<std::size_t>(slice.outputs),
                            static_cast<std::size_t>(slice.inputs));
  if (!bytes) {
    return fail(ErrorCode::kCorruptData, "rows of " + slice.tensor->name + " are no whole blocks");
  }
  return base::Arena::block_bytes(*bytes);
}

}  // namespace

Result<std::vector<gguf::ByteRange>> expert_ranges(const gguf::File& file,
                                                   const ModelConfig& config, ExpertId id) {
  CONCLAVE_TRY(const ExpertTensors tensors, find_tensors(file, config, id));
  std::vector<gguf::ByteRange> ranges;
  for (const Projection* projection : {&tensors.gate, &tensors.up, &tensors.down}) {
    CONCLAVE_TRY(const gguf::ByteRange range, range_of(projection->weight));
    ranges.push_back(range);
  }
  for (const Projection* projection : {&tensors.gate, &tensors.up, &tensors.down}) {
    if (projection->bias.tensor == nullptr) continue;
    CONCLAVE_TRY(const gguf::ByteRange range, range_of(projection->bias));
    ranges.push_back(range);
  }
  return ranges;
}

void RowForms::add(gguf::BlockType type) {
  const std::size_t block = kernels::scale_block(type);
  floats = floats || block == 0;
  scale_block = std::max(scale_block, block);
}

Result<RowForms> row_forms(const gguf::File& file, const ModelConfig& config, std::uint32_t layer) {
  RowForms forms;
  for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
    CONCLAVE_TRY(const ExpertTensors tensors, find_tensors(file, config, {layer, index}));
    for (const Projection* projection : {&tensors.gate, &tensors.up}) {
      forms.add(projection->weight.tensor->type);
    }
  }
  return forms;
}

Result<std::vector<RowForms>> row_forms(const gguf::File& file, const ModelConfig& config) {
  std::vector<RowForms> forms(config.layers);
  for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
    CONCLAVE_TRY(forms[layer], row_forms(file, config, layer));
  }
  return forms;
}

Result<std::size_t> packed_expert_bytes(const gguf::File& file, const ModelConfig& config,
                                        ExpertId id) {
  CONCLAVE_TRY(const ExpertTensors tensors, find_tensors(file, config, id));
  std::size_t sum = 0;
  for (const Projection* projection : {&tensors.gate, &tensors.up, &tensors.down}) {
    CONCLAVE_TRY(const std::size_t bytes, packed_bytes_of(projection->weight));
    sum += bytes;
  }
  return sum;
}

// In the order of expert_ranges: weights, then biases.
Result<Expert> load_expert(const gguf::File& file, const ModelConfig& config, ExpertId id,
                           base::Arena& arena, Sha256Hasher* hasher) {
  CONCLAVE_TRY(const ExpertTensors tensors, find_tensors(file, config, id));
  Expert expert;
  const std::pair<const Projection&, Linear&> parts[] = {
      {tensors.gate, expert.gate}, {tensors.up, expert.up}, {tensors.down, expert.down}};
  // All three are far apart in the file: a disk can bring them together.
  for (const auto& [projection, linear] : parts) {
    CONCLAVE_TRY(const gguf::ByteRange range, range_of(projection.weight));
    file.will_need(range);
  }
  const TensorReader reader(file, arena, hasher);
  // They are read in one go, so all three lie behind each other, nearly always: threads may load
  // several experts into the arena, but it takes long to fill one.
  for (const auto& [projection, linear] : parts) {
    const Slice& weight = projection.weight;
    CONCLAVE_TRY(linear.weight, reader.room(*weight.tensor, weight.outputs, weight.inputs));
  }
  for (const auto& [projection, linear] : parts) {
    const Slice& weight = projection.weight;
    CONCLAVE_TRY_VOID(reader.fill(*weight.tensor, weight.first_row, linear.weight));
  }
  for (const auto& [projection, linear] : parts) {
    const Slice& bias = projection.bias;
    if (bias.tensor == nullptr) continue;
    CONCLAVE_TRY(linear.bias, reader.float_rows(*bias.tensor, bias.first_row, 1, bias.inputs));
  }
  return expert;
}

Result<Expert> load_expert(const gguf::File& file, const ModelConfig& config, ExpertId id) {
  CONCLAVE_TRY(const std::size_t bytes, packed_expert_bytes(file, config, id));
  base::Arena arena(bytes);
  return load_expert(file, config, id, arena);
}

}  // namespace conclave::model
