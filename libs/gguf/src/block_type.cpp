#include "conclave/gguf/block_type.hpp"

#include <limits>

#include "conclave/base/check.hpp"
#include "half.hpp"

namespace conclave::gguf {
namespace {

// Index = type id. 4, 5, 31 to 33 and 36 to 38 were removed from ggml; old files still name them.
constexpr std::array<std::string_view, 42> kTypeNames = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
};

}  // namespace

BlockTraits traits(BlockType type) {
  switch (type) {
    case BlockType::kF32:
      return {"F32", 1, 4};
    case BlockType::kF16:
      return {"F16", 1, 2};
    case BlockType::kBF16:
      return {"BF16", 1, 2};
    case BlockType::kQ8_0:
      return {"Q8_0", 32, 34};  // f16 scale, 32 x int8
    case BlockType::kQ4_0:
      return {"Q4_0", 32, 18};  // f16 scale, 32 x 4 bits
    case BlockType::kQ4_K:
      return {"Q4_K", 256, 144};  // 2 x f16, 16 x 6 bits, 256 x 4 bits
    case BlockType::kQ5_K:
      return {"Q5_K", 256, 176};  // as Q4_K, and 256 x 1 bit
    case BlockType::kQ6_K:
      return {"Q6_K", 256, 210};  // 256 x 6 bits, 16 x int8, f16 scale
    case BlockType::kMXFP4:
      return {"MXFP4", 32, 17};  // e8m0 scale, 32 x e2m1
  }
  base::check_failed("type is one of kBlockTypes", __FILE__, __LINE__);
}

std::optional<BlockType> block_type_from_id(std::uint32_t id) {
  for (const BlockType type : kBlockTypes) {
    if (static_cast<std::uint32_t>(type) == id) return type;
  }
  return std::nullopt;
}

std::string type_name(std::uint32_t id) {
  if (id < kTypeNames.size()) return std::string(kTypeNames[id]);
  return "type " + std::to_string(id);
}

std::optional<std::size_t> bytes_of(BlockType type, std::uint64_t elements) {
  const BlockTraits block = traits(type);
  if (elements % block.elements != 0) return std::nullopt;
  const std::uint64_t blocks = elements / block.elements;
  if (blocks > std::numeric_limits<std::size_t>::max() / block.bytes) return std::nullopt;
  return static_cast<std::size_t>(blocks * block.bytes);
}

float f16_to_f32(std::uint16_t bits) { return half::from_f16(bits); }
std::uint16_t f32_to_f16(float value) { return half::to_f16(value); }
float bf16_to_f32(std::uint16_t bits) { return half::from_bf16(bits); }
std::uint16_t f32_to_bf16(float value) { return half::to_bf16(value); }

}  // namespace conclave::gguf
