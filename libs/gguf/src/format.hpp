// What reader and writer share: the numbers of the container and how messages show names.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/base/text.hpp"
#include "conclave/gguf/metadata.hpp"

namespace conclave::gguf {

static_assert(std::endian::native == std::endian::little,
              "GGUF fields are copied as they are: a big-endian host needs a byte swap here");

inline constexpr std::uint32_t kMagic = 0x46554747;             // "GGUF"
inline constexpr std::uint32_t kMagicByteSwapped = 0x47475546;  // "FUGG"
inline constexpr std::uint32_t kVersionMin = 2;
inline constexpr std::uint32_t kVersionMax = 3;
inline constexpr std::string_view kAlignmentKey = "general.alignment";

/// Type ids of metadata values that the parser treats on their own.
inline constexpr std::uint32_t kStringTypeId = 8;
inline constexpr std::uint32_t kArrayTypeId = 9;

using base::shown;

/// `general.alignment`, or the default; kCorruptData when it is no sensible alignment.
base::Result<std::uint32_t> alignment_of(const Metadata& metadata);

/// `value` rounded up to a multiple of `alignment` (a power of two).
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace conclave::gguf
