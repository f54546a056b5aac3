// Reads the key-value part of a GGUF file. Private to the library.
#pragma once

#include <cstdint>

#include "byte_reader.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/metadata.hpp"

namespace conclave::gguf {

/// Reads `count` keys with their values. kCorruptData for anything that the format does not allow
/// or that is above our limits; the message names the key and the offset.
base::Result<Metadata> parse_metadata(ByteReader& reader, std::uint64_t count);

}  // namespace conclave::gguf
