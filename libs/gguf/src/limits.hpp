// What a GGUF file may ask of us, and why each number is what it is. The format itself has no
// bounds, so a reader without its own is a memory bomb.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conclave::gguf::limits {

/// Metadata and tensor table of one part together. The largest published ones (262,144 tokens with
/// scores, types and merges) need about 16 MiB; parsed values take at most about 6 times the bytes
/// that they have in the file, so a hostile file costs well under 1 GiB however long it is.
inline constexpr std::size_t kHeaderBytesMax = std::size_t{128} << 20;

/// Published models have 20 to 60 keys. Insertion into the sorted index is linear, so this also
/// keeps reading fast: 16,384 sorted insertions take milliseconds.
inline constexpr std::uint64_t kMetadataKeysMax = 16384;

/// The specification's own limit on keys.
inline constexpr std::uint64_t kKeyBytesMax = 65535;

/// ggml stores names in 64 bytes with the NUL; files from other writers may be longer.
inline constexpr std::uint64_t kTensorNameBytesMax = 1024;

/// What ggml reads back: the writer stays within it so that other tools open its files.
inline constexpr std::uint64_t kTensorNameBytesWritten = 63;

/// GGML_MAX_DIMS.
inline constexpr std::uint32_t kDimensionsMax = 4;

/// ggml counts elements in int64.
inline constexpr std::uint64_t kElementsMax = INT64_MAX;

/// No published model nests arrays; the parser recurses once per level.
inline constexpr int kArrayDepthMax = 4;

/// The specification asks for a multiple of 8, which also keeps F32 data aligned in a mapping.
inline constexpr std::uint32_t kAlignmentMin = 8;
/// The largest page of the machines we know; more would only be padding, which the writer makes
/// for every tensor.
inline constexpr std::uint32_t kAlignmentMax = 1u << 16;
inline constexpr std::uint32_t kAlignmentDefault = 32;

/// Names of parts have five digits, but each part is a mapping and a parsed header: the largest
/// published models have below 200.
inline constexpr std::uint32_t kPartsMax = 4096;

}  // namespace conclave::gguf::limits
