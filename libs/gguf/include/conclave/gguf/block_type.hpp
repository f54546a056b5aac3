// The tensor element formats of GGUF that Conclave reads: names, sizes, decoding and encoding.
// Formats are those of ggml (ggml-common.h, ggml-quants.c); numbers are the type ids in files.
// No matrix products here: libs/kernels computes on its own repacked forms.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::gguf {

enum class BlockType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
  kMXFP4 = 39,
};

inline constexpr std::array kBlockTypes = {
    BlockType::kF32,  BlockType::kF16,  BlockType::kBF16, BlockType::kQ8_0,  BlockType::kQ4_0,
    BlockType::kQ4_K, BlockType::kQ5_K, BlockType::kQ6_K, BlockType::kMXFP4,
};

/// A block is the unit of a format: `elements` values of one row stored in `bytes` bytes.
struct BlockTraits {
  std::string_view name;  // as ggml spells it: "Q4_K"
  std::uint32_t elements = 1;
  std::uint32_t bytes = 0;
};

BlockTraits traits(BlockType type);

/// The known type with this id in a file, or nothing.
std::optional<BlockType> block_type_from_id(std::uint32_t id);

/// ggml's name for any type id that it has ever assigned ("IQ2_XS"), for messages; "type N" else.
std::string type_name(std::uint32_t id);

/// Bytes of `elements` values; nothing when they are no whole number of blocks or it overflows.
std::optional<std::size_t> bytes_of(BlockType type, std::uint64_t elements);

/// Decodes whole blocks: `out.size()` values from exactly `bytes_of(type, out.size())` bytes.
/// Sizes that do not fit are a bug of the caller (checked). Any bit pattern decodes: the result may
/// be inf or NaN where the file's scales are.
void dequantize(BlockType type, std::span<const std::byte> in, std::span<float> out);

/// Encodes with round-to-nearest as ggml's reference quantisers do, so the bytes equal theirs.
/// Types: F32, F16, BF16, Q8_0, Q4_0; kUnimplemented for the others. kInvalidArgument: sizes that
/// do not fit, or inf or NaN for Q8_0 and Q4_0, which have no form for them.
base::Status quantize(BlockType type, std::span<const float> in, std::span<std::byte> out);

float f16_to_f32(std::uint16_t bits);   // exact; NaN becomes quiet
std::uint16_t f32_to_f16(float value);  // nearest even, overflow to inf
float bf16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_bf16(float value);  // nearest even, NaN stays NaN

}  // namespace conclave::gguf
