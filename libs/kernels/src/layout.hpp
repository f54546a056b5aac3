// Byte layouts of packed panels: what pack.cpp writes and the kernels read.
//
// A panel holds 16 outputs. For float formats it is (inputs, 16) values. For block formats it is a
// row of "supers": as many inputs as share scales (32, or 256 for the K-quants), each made of sub
// blocks of 32 inputs. The quants of a sub block are 8 groups of 4 inputs; group g is 64 bytes,
// byte 4 * lane + i being input 4 * g + i of output `lane`: one 32-bit lane of a VNNI or maddubs
// dot product. Quants are stored unsigned (value + offset); kernels take the offset back through
// the sums of the activations, in exact integers.
#pragma once

#include <cstddef>

namespace conclave::kernels::layout {

inline constexpr std::size_t kLanes = 16;
inline constexpr std::size_t kGroups = 8;  // groups of 4 inputs in a sub block of 32
inline constexpr std::size_t kGroupBytes = 4 * kLanes;

/// Q8_0: 16 f16 scales, then 8 groups of (quant + 128).
struct Q8 {
  static constexpr std::size_t kInputs = 32;
  static constexpr std::size_t kScales = 0;
  static constexpr std::size_t kQuants = 2 * kLanes;
  static constexpr std::size_t kBytes = kQuants + kGroups * kGroupBytes;
};

/// Nibble formats pair groups: byte of group g has group g + 4 in its high half (g < 4).
inline constexpr std::size_t kNibbleBytes = kGroups / 2 * kGroupBytes;

/// Q4_0: 16 f16 scales, then nibbles (value + 8).
struct Q4 {
  static constexpr std::size_t kInputs = 32;
  static constexpr std::size_t kScales = 0;
  static constexpr std::size_t kQuants = 2 * kLanes;
  static constexpr std::size_t kBytes = kQuants + kNibbleBytes;
};

/// MXFP4: 16 exponent bytes (e8m0), then nibbles that index the FP4 grid.
struct Mxfp4 {
  static constexpr std::size_t kInputs = 32;
  static constexpr std::size_t kScales = 0;
  static constexpr std::size_t kQuants = kLanes;
  static constexpr std::size_t kBytes = kQuants + kNibbleBytes;
};

/// The K-quants: what a super's outputs share comes first, then 8 sub blocks that start on cache
/// lines.

/// What Q4_K and Q5_K share: f16 d and dmin of 16 outputs, the scales of 8 sub blocks (16 bytes
/// each), their mins, then the sub blocks, which start with the nibbles.
struct ScaleMin {
  static constexpr std::size_t kInputs = 256;
  static constexpr std::size_t kD = 0;
  static constexpr std::size_t kMin = 2 * kLanes;
  static constexpr std::size_t kScales = 4 * kLanes;
  static constexpr std::size_t kMins = kScales + 8 * kLanes;
  static constexpr std::size_t kSub = kMins + 8 * kLanes;
};

struct Q4K : ScaleMin {
  static constexpr std::size_t kSubBytes = kNibbleBytes;
  static constexpr std::size_t kBytes = kSub + 8 * kSubBytes;
};

/// Q5_K adds 64 bytes a sub block whose bit g of byte 4 * lane + i is the fifth bit of group g.
struct Q5K : ScaleMin {
  static constexpr std::size_t kSubHigh = kNibbleBytes;
  static constexpr std::size_t kSubBytes = kSubHigh + kGroupBytes;
  static constexpr std::size_t kBytes = kSub + 8 * kSubBytes;
};

/// Q6_K: f16 d of 16 outputs, signed scales of 8 sub blocks (16 of the first 16 inputs, 16 of the
/// second each), 32 bytes of nothing, then sub blocks of {nibbles, 2 x 64 bytes of high bits}.
/// Group g shares nibbles with group g + 2 (g = 0, 1, 4, 5), so that each half has its own; bits
/// 2g..2g+1 of high byte 4 * lane + i of half h belong to group 4 * h + g.
struct Q6K {
  static constexpr std::size_t kInputs = 256;
  static constexpr std::size_t kD = 0;
  static constexpr std::size_t kScales = 2 * kLanes;
  static constexpr std::size_t kSub = 20 * kLanes;
  static constexpr std::size_t kSubHigh = kNibbleBytes;
  static constexpr std::size_t kSubBytes = kSubHigh + 2 * kGroupBytes;
  static constexpr std::size_t kBytes = kSub + 8 * kSubBytes;
};

}  // namespace conclave::kernels::layout
