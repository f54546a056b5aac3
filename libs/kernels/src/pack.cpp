// Regroups the blocks of a GGUF tensor into panels (layout.hpp). Runs once, when weights are
// loaded.
#include <algorithm>
#include <cstring>
#include <string>

#include "conclave/base/check.hpp"
#include "conclave/kernels/packed_matrix.hpp"
#include "layout.hpp"

namespace conclave::kernels {
namespace {

using gguf::BlockType;
namespace L = layout;

// Values move in words of 4: four inputs of one output, which a group keeps together too. Packing
// is then bound by memory and not by instructions, on any processor.
using Word = std::uint32_t;

Word word_at(const std::uint8_t* bytes, std::size_t index) {
  Word word;
  std::memcpy(&word, bytes + 4 * index, sizeof word);
  return word;
}

// Word `lane` of group `group`.
void put_word(std::uint8_t* groups, std::size_t group, std::size_t lane, Word word) {
  std::memcpy(groups + group * L::kGroupBytes + 4 * lane, &word, sizeof word);
}

// The same bits of each byte.
constexpr Word each(std::uint8_t byte) { return byte * Word{0x01010101}; }

void put_half(std::uint8_t* halves, std::size_t lane, const std::uint8_t* source) {
  std::memcpy(halves + 2 * lane, source, 2);
}

// Each packer below writes one source block of one output into its super: all bytes of the lane,
// none of the others. `block` is the file's bytes.

void pack_q8_0(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  put_half(super + L::Q8::kScales, lane, block);
  for (std::size_t g = 0; g < 8; ++g) {
    put_word(super + L::Q8::kQuants, g, lane, word_at(block + 2, g) ^ each(0x80));
  }
}

// ggml keeps inputs 0..15 of a 32-block in the low nibbles of its 16 bytes, 16..31 in the high:
// groups pair up in the same way.
void pack_nibbles(const std::uint8_t* bytes, std::uint8_t* quants, std::size_t lane) {
  for (std::size_t g = 0; g < 4; ++g) put_word(quants, g, lane, word_at(bytes, g));
}

void pack_q4_0(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  put_half(super + L::Q4::kScales, lane, block);
  pack_nibbles(block + 2, super + L::Q4::kQuants, lane);
}

void pack_mxfp4(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  super[L::Mxfp4::kScales + lane] = block[0];
  pack_nibbles(block + 1, super + L::Mxfp4::kQuants, lane);
}

// The nibbles of 32 inputs, which the K-quants keep in one half (shift 0 or 4) of 32 bytes. Group g
// of them stands beside group g + kApart.
template <std::size_t kApart>
void pack_half_bytes(const std::uint8_t* bytes, unsigned shift, std::uint8_t* quants,
                     std::size_t lane) {
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t g = i / kApart * 2 * kApart + i % kApart;
    const Word low = (word_at(bytes, g) >> shift) & each(15);
    const Word high = (word_at(bytes, g + kApart) >> shift) & each(15);
    put_word(quants, i, lane, low | high << 4);
  }
}

struct ScaleMin {
  std::uint8_t scale;
  std::uint8_t min;
};

// The 6-bit scale and min of sub block j, as Q4_K and Q5_K pack them in 12 bytes.
ScaleMin scale_min(const std::uint8_t* packed, std::size_t j) {
  const auto bits = [&](std::size_t at, unsigned shift, unsigned mask) {
    return (unsigned{packed[at]} >> shift) & mask;
  };
  const auto byte = [](unsigned value) { return static_cast<std::uint8_t>(value); };
  if (j < 4) return {byte(bits(j, 0, 63)), byte(bits(j + 4, 0, 63))};
  return {byte(bits(j + 4, 0, 15) | bits(j - 4, 6, 3) << 4),
          byte(bits(j + 4, 4, 15) | bits(j, 6, 3) << 4)};
}

// Q4_K and Q5_K share all but the fifth bits. Nibbles: each 32 bytes hold two sub blocks, the even
// one low, the odd one high.
template <class K>
void pack_k(const std::uint8_t* block, const std::uint8_t* nibbles, std::uint8_t* super,
            std::size_t lane) {
  put_half(super + K::kD, lane, block);
  put_half(super + K::kMin, lane, block + 2);
  for (std::size_t j = 0; j < 8; ++j) {
    std::uint8_t* sub = super + K::kSub + j * K::kSubBytes;
    const ScaleMin scales = scale_min(block + 4, j);
    super[K::kScales + j * L::kLanes + lane] = scales.scale;
    super[K::kMins + j * L::kLanes + lane] = scales.min;
    pack_half_bytes<4>(nibbles + 32 * (j / 2), j % 2 == 0 ? 0 : 4, sub, lane);
  }
}

void pack_q4_k(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  pack_k<L::Q4K>(block, block + 16, super, lane);
}

void pack_q5_k(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  pack_k<L::Q5K>(block, block + 48, super, lane);
  const std::uint8_t* high = block + 16;  // bit j of byte i: fifth bit of input i of sub block j
  for (std::size_t j = 0; j < 8; ++j) {
    Word bits = 0;
    for (std::size_t g = 0; g < 8; ++g) bits |= ((word_at(high, g) >> j) & each(1)) << g;
    put_word(super + L::Q5K::kSub + j * L::Q5K::kSubBytes + L::Q5K::kSubHigh, 0, lane, bits);
  }
}

// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d. Each half of 128
// inputs has four quarters of 32: quarters 0 and 1 in the low nibbles of 64 bytes, 2 and 3 in the
// high ones; the high bits of all four quarters share one byte.
void pack_q6_k(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  const std::uint8_t* low = block;
  const std::uint8_t* high = block + 128;
  const std::uint8_t* scales = block + 192;
  put_half(super + L::Q6K::kD, lane, block + 208);
  for (std::size_t j = 0; j < 8; ++j) {
    std::uint8_t* sub = super + L::Q6K::kSub + j * L::Q6K::kSubBytes;
    for (std::size_t h = 0; h < 2; ++h) {
      super[L::Q6K::kScales + (2 * j + h) * L::kLanes + lane] = scales[2 * j + h];
    }
    const std::size_t half = j / 4;
    const std::size_t quarter = j % 4;
    pack_half_bytes<2>(low + 64 * half + 32 * (quarter % 2), quarter < 2 ? 0 : 4, sub, lane);
    for (std::size_t h = 0; h < 2; ++h) {
      Word pairs = 0;
      for (std::size_t g = 0; g < 4; ++g) {
        const Word source = word_at(high + 32 * half + 16 * h, g);
        pairs |= ((source >> (2 * quarter)) & each(3)) << (2 * g);
      }
      put_word(sub + L::Q6K::kSubHigh, h, lane, pairs);
    }
  }
}

// A float value of `size` bytes is a block of one input.
template <std::size_t kSize>
void pack_float(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  std::memcpy(super + kSize * lane, block, kSize);
}

// `lanes` rows of whole blocks, `row_bytes` apart, into one panel. It takes a cache line or more of
// a row at a time: where rows are a power of two apart, the lines of 16 of them push each other
// out, and a line would be fetched for each of its values.
template <auto kPack, std::size_t kSuperBytes>
void pack_panel(const std::uint8_t* rows, std::size_t row_bytes, std::size_t block_bytes,
                std::size_t lanes, std::uint8_t* panel) {
  const std::size_t tile_blocks = block_bytes < 16 ? 64 / block_bytes : 1;
  const std::size_t blocks = row_bytes / block_bytes;
  for (std::size_t first = 0; first < blocks; first += tile_blocks) {
    const std::size_t end = std::min(first + tile_blocks, blocks);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const std::uint8_t* row = rows + lane * row_bytes;
      for (std::size_t i = first; i < end; ++i) {
        kPack(row + i * block_bytes, panel + i * kSuperBytes, lane);
      }
    }
  }
}

struct Packer {
  void (*pack_panel)(const std::uint8_t* rows, std::size_t row_bytes, std::size_t block_bytes,
                     std::size_t lanes, std::uint8_t* panel);
  std::size_t super_bytes;
};

// The packer of a block is a constant, so that the loops are compiled for each.
template <auto kPack, std::size_t kSuperBytes>
constexpr Packer kPacker{pack_panel<kPack, kSuperBytes>, kSuperBytes};

Packer packer(BlockType type) {
  switch (type) {
    case BlockType::kF32:
      return kPacker<pack_float<4>, 4 * L::kLanes>;
    case BlockType::kF16:
    case BlockType::kBF16:
      return kPacker<pack_float<2>, 2 * L::kLanes>;
    case BlockType::kQ8_0:
      return kPacker<pack_q8_0, L::Q8::kBytes>;
    case BlockType::kQ4_0:
      return kPacker<pack_q4_0, L::Q4::kBytes>;
    case BlockType::kMXFP4:
      return kPacker<pack_mxfp4, L::Mxfp4::kBytes>;
    case BlockType::kQ4_K:
      return kPacker<pack_q4_k, L::Q4K::kBytes>;
    case BlockType::kQ5_K:
      return kPacker<pack_q5_k, L::Q5K::kBytes>;
    case BlockType::kQ6_K:
      return kPacker<pack_q6_k, L::Q6K::kBytes>;
  }
  return {};
}

}  // namespace

std::size_t scale_block(BlockType type) {
  const std::size_t elements = gguf::traits(type).elements;
  return elements > 1 ? elements : 0;
}

std::optional<std::size_t> packed_bytes(BlockType type, std::size_t outputs, std::size_t inputs) {
  const std::size_t elements = gguf::traits(type).elements;
  if (outputs == 0 || inputs == 0 || inputs % elements != 0) return std::nullopt;
  const std::size_t panels = outputs / kPanelOutputs + (outputs % kPanelOutputs == 0 ? 0 : 1);
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(inputs / elements, packer(type).super_bytes, &bytes) ||
      __builtin_mul_overflow(bytes, panels, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

base::Result<PackedMatrix> PackedMatrix::create(BlockType type, std::size_t outputs,
                                                std::size_t inputs, base::Arena& arena) {
  const auto bytes = packed_bytes(type, outputs, inputs);
  if (!bytes) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      "there is no " + std::string(gguf::traits(type).name) + " matrix of " +
                          std::to_string(outputs) + " x " + std::to_string(inputs));
  }
  PackedMatrix matrix;
  matrix.type_ = type;
  matrix.outputs_ = outputs;
  matrix.inputs_ = inputs;
  matrix.panel_bytes_ = *bytes / matrix.panels();
  CONCLAVE_TRY(matrix.block_, arena.allocate(*bytes));
  return matrix;
}

// Lanes without an output stay zero, as the arena gave them.
void PackedMatrix::fill(std::size_t first_panel, std::span<const std::byte> rows) {
  const gguf::BlockTraits block = gguf::traits(type_);
  const Packer packing = packer(type_);
  const std::size_t row_bytes = inputs_ / block.elements * block.bytes;
  const std::size_t count = rows.size() / row_bytes;
  const std::size_t first = first_panel * kPanelOutputs;
  CONCLAVE_CHECK(rows.size() == count * row_bytes && first + count <= outputs_ &&
                 (count % kPanelOutputs == 0 || first + count == outputs_));
  const auto* source = reinterpret_cast<const std::uint8_t*>(rows.data());
  auto* panel = reinterpret_cast<std::uint8_t*>(block_.data()) + first_panel * panel_bytes_;
  for (std::size_t done = 0; done < count; done += kPanelOutputs, panel += panel_bytes_) {
    const std::size_t lanes = std::min(kPanelOutputs, count - done);
    packing.pack_panel(source, row_bytes, block.bytes, lanes, panel);
    source += lanes * row_bytes;
  }
}

base::Result<PackedMatrix> PackedMatrix::pack(BlockType type, std::span<const std::byte> data,
                                              std::size_t outputs, std::size_t inputs) {
  const auto row_bytes = gguf::bytes_of(type, inputs);
  if (outputs == 0 || !row_bytes || data.size() / outputs != *row_bytes ||
      data.size() % outputs != 0) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      "a " + std::string(gguf::traits(type).name) + " matrix of " +
                          std::to_string(outputs) + " x " + std::to_string(inputs) +
                          " does not fit " + std::to_string(data.size()) + " bytes");
  }
  base::Arena arena(packed_bytes(type, outputs, inputs).value_or(0));
  CONCLAVE_TRY(PackedMatrix matrix, create(type, outputs, inputs, arena));
  matrix.fill(0, data);
  return matrix;
}

}  // namespace conclave::kernels
