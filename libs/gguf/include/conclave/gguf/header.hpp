// The beginning of a GGUF file, read before the rest of it is here: what somebody who fetches a
// file piece by piece must know to fetch no more than he needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::gguf {

struct Header {
  std::uint64_t bytes = 0;  // to the end of the tensor table
  std::uint32_t part = 0;   // which part of a split model it is, 0-based
  std::uint32_t parts = 1;  // of how many
};

/// The header of a file of `file_size` bytes that begins with `prefix`; nothing: the header goes on
/// behind the prefix. Errors as File::open for what the prefix shows already; a header that does
/// not end within the file, or within what Conclave reads of one (128 MiB), is kCorruptData once so
/// much is there. Costs about as much as opening the file: let prefixes grow by factors.
base::Result<std::optional<Header>> read_header(std::span<const std::byte> prefix,
                                                std::uint64_t file_size);

/// "-00001-of-00003.gguf" for part 0 of 3: how the names of a split model's parts end.
std::string part_suffix(std::uint32_t part, std::uint32_t parts);

}  // namespace conclave::gguf
