// Reads and checks one GGUF file (one part of a model) from memory. Private to the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"

namespace conclave::gguf {

struct ParsedPart {
  std::uint32_t version = 0;
  std::uint32_t alignment = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // ranges lie inside the bytes and do not overlap
};

/// Parses the part `part` of a model. Errors as File::open documents. Names of tensors are not yet
/// compared with each other: that is for whoever has all parts.
base::Result<ParsedPart> parse_part(std::span<const std::byte> bytes, std::uint32_t part);

}  // namespace conclave::gguf
