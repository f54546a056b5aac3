// Writes GGUF version 3 files: the demo and test models, quantised copies, split parts.
// It writes what it is given; whether a model is complete is the caller's business.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"

namespace conclave::gguf {

struct WriterTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // ne[0] first
  BlockType type = BlockType::kF32;
  std::span<const std::byte> data;  // borrowed until the call returns
};

/// The bytes of a whole file. kInvalidArgument for what File::open would refuse, and for tensor
/// names above ggml's 63 bytes: duplicate names, data that does not match shape and type, an
/// alignment (`general.alignment`, default 32) that is no power of two of at least 8, keys that
/// are empty or not UTF-8.
base::Result<std::vector<std::byte>> serialize(const Metadata& metadata,
                                               std::span<const WriterTensor> tensors);

/// Writes to `path` by way of a temporary beside it and an atomic rename, so that a reader never
/// sees half a file. Streams the tensor data: memory use is that of the header. Errors as
/// `serialize`, and kNotFound (no such directory), kUnavailable (the system's reason).
base::Status write(const std::filesystem::path& path, const Metadata& metadata,
                   std::span<const WriterTensor> tensors);

}  // namespace conclave::gguf
