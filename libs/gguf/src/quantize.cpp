// Encoding as ggml's reference quantisers do it (quantize_row_*_ref), operation by operation, so
// that the bytes equal theirs.
#include <cmath>
#include <cstring>

#include "conclave/gguf/block_type.hpp"
#include "half.hpp"

namespace conclave::gguf {
namespace {

constexpr std::size_t kBlock = 32;  // of Q8_0 and Q4_0

void store_f16(float value, std::byte* at) {
  const std::uint16_t bits = half::to_f16(value);
  std::memcpy(at, &bits, sizeof bits);
}

// A block whose largest magnitude is so small (below 2^-121) that the inverse of its scale is inf:
// its stored f16 scale is 0 whatever the quants are. ggml converts inf to an integer there, which
// is undefined in C++ and gives 0 on x86-64.
int to_int(float value) { return std::isfinite(value) ? static_cast<int>(value) : 0; }

void encode_q8_0(const float* in, std::byte* out) {
  float magnitude_max = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    magnitude_max = std::fmax(magnitude_max, std::fabs(in[i]));
  }
  const float d = magnitude_max / 127.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  store_f16(d, out);
  for (std::size_t i = 0; i < kBlock; ++i) {
    out[2 + i] = static_cast<std::byte>(to_int(std::round(in[i] * inverse)));
  }
}

void encode_q4_0(const float* in, std::byte* out) {
  float magnitude_max = 0;
  float max = 0;  // the value of that magnitude, with its sign: it becomes -8 exactly
  for (std::size_t i = 0; i < kBlock; ++i) {
    if (magnitude_max < std::fabs(in[i])) {
      magnitude_max = std::fabs(in[i]);
      max = in[i];
    }
  }
  const float d = max / -8.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  store_f16(d, out);
  const auto nibble = [&](float value) { return std::min(15, to_int(value * inverse + 8.5f)); };
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[2 + i] = static_cast<std::byte>(nibble(in[i]) | (nibble(in[i + kBlock / 2]) << 4));
  }
}

base::Status encode_blocks(std::span<const float> in, std::span<std::byte> out, std::size_t bytes,
                           void (*encode)(const float*, std::byte*)) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!std::isfinite(in[i])) {
      return base::fail(base::ErrorCode::kInvalidArgument,
                        "value " + std::to_string(i) + " is not finite: it has no quantised form");
    }
  }
  for (std::size_t b = 0; b < in.size() / kBlock; ++b) {
    encode(in.data() + b * kBlock, out.data() + b * bytes);
  }
  return {};
}

base::Status encode_halves(std::span<const float> in, std::span<std::byte> out,
                           std::uint16_t (*convert)(float)) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::uint16_t bits = convert(in[i]);
    std::memcpy(out.data() + 2 * i, &bits, sizeof bits);
  }
  return {};
}

}  // namespace

base::Status quantize(BlockType type, std::span<const float> in, std::span<std::byte> out) {
  if (bytes_of(type, in.size()) != out.size()) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      std::to_string(in.size()) + " values do not make " +
                          std::to_string(out.size()) + " bytes of " +
                          std::string(traits(type).name));
  }
  switch (type) {
    case BlockType::kF32:
      if (!in.empty()) std::memcpy(out.data(), in.data(), out.size());
      return {};
    case BlockType::kF16:
      return encode_halves(in, out, half::to_f16);
    case BlockType::kBF16:
      return encode_halves(in, out, half::to_bf16);
    case BlockType::kQ8_0:
      return encode_blocks(in, out, 34, encode_q8_0);
    case BlockType::kQ4_0:
      return encode_blocks(in, out, 18, encode_q4_0);
    case BlockType::kQ4_K:
    case BlockType::kQ5_K:
    case BlockType::kQ6_K:
    case BlockType::kMXFP4:
      break;
  }
  return base::fail(base::ErrorCode::kUnimplemented,
                    "quantising to " + std::string(traits(type).name) + " is not supported");
}

}  // namespace conclave::gguf
