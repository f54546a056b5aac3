// The convention of split models (gguf-split): which part a file says it is, and where the others
// are. Private to the library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/metadata.hpp"

namespace conclave::gguf {

struct SplitInfo {
  std::uint32_t index = 0;         // split.no, 0-based
  std::uint32_t count = 1;         // split.count; 1 for a file that is whole
  std::uint64_t tensor_count = 0;  // split.tensors.count: of all parts; 0 for a file that is whole
};

/// What the `split.*` keys say. Absent or `split.count` 0 or 1 (gguf-split leaves 0 behind when it
/// merges): a whole file. kCorruptData if they make no sense.
base::Result<SplitInfo> split_info(const Metadata& metadata);

/// The paths of all parts, in order, by the name of one: PREFIX-00002-of-00003.gguf. kNotFound if
/// its name does not say what its metadata says, so that the others have no names.
base::Result<std::vector<std::filesystem::path>> part_paths(const std::filesystem::path& path,
                                                            const SplitInfo& split);

}  // namespace conclave::gguf
