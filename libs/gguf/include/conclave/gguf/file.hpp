// A GGUF model as published: one file or all parts of a split one, mapped and never copied.
// Everything in it is checked when it is opened, so that later readers need not. It does not know
// what a tensor is for: libs/model does.
// Format: ggml docs/gguf.md, versions 2 and 3, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/block_type.hpp"
#include "conclave/gguf/metadata.hpp"

namespace conclave::gguf {

/// Where a range of bytes is: part (0-based; 0 for a single file), offset from the start of that
/// part's file, length. What a worker asks an artifact store for.
struct ByteRange {
  std::uint32_t part = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

struct TensorInfo {
  std::string name;
  std::vector<std::uint64_t>
      shape;  // ne[0] first: the contiguous dimension; 1 to 4 entries, none 0
  BlockType type = BlockType::kF32;
  ByteRange range;

  [[nodiscard]] std::uint64_t elements() const;
  /// "Q8_0 [64, 128, 8]"-like, for messages and tables.
  [[nodiscard]] std::string describe() const;
};

/// Immutable after `open`; safe to read from any thread; movable, spans stay valid.
class File {
 public:
  /// Maps `path` and, when it is a part of a split model (`-00001-of-0000N.gguf`, `split.*` keys),
  /// all parts beside it: any part opens the whole model. kNotFound (file or part missing, or a
  /// part renamed so that the others cannot be found), kCorruptData (not GGUF, truncated,
  /// out-of-range or overlapping tensors, absurd counts, parts that disagree: the message names
  /// what and the offset), kUnimplemented (big endian, version 1 or above 3, a block type that
  /// Conclave does not compute).
  static base::Result<File> open(const std::filesystem::path& path);

  /// The same over bytes that the caller keeps alive (tests, fuzzers); kInvalidArgument for a part
  /// of a split model, which has no parts beside it here.
  static base::Result<File> parse(std::span<const std::byte> bytes);

  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();

  /// Of the first part, as are alignment and metadata. Other parts may be aligned differently:
  /// ranges of tensors already say where their data is.
  [[nodiscard]] std::uint32_t version() const;
  [[nodiscard]] std::uint32_t alignment() const;
  [[nodiscard]] const Metadata& metadata() const;

  /// All tensors, of all parts, in the order of the files' tensor tables.
  [[nodiscard]] std::span<const TensorInfo> tensors() const;
  /// nullptr if there is no such tensor. O(log n).
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;

  /// The bytes of a tensor of this file, or of any range inside one part (checked).
  [[nodiscard]] std::span<const std::byte> bytes(const TensorInfo& tensor) const;
  [[nodiscard]] std::span<const std::byte> bytes(const ByteRange& range) const;

  /// MappedFile's advice for a range inside one part (checked); nothing for bytes of the caller's.
  void will_need(const ByteRange& range) const;
  void forget(const ByteRange& range) const;
  /// Of all parts: when what was wanted has been copied. Reading a piece maps pages around it, too,
  /// and so brings back some of what was forgotten piece by piece.
  void forget() const;

  /// One per part: path (empty when parsed from memory) and size in bytes.
  struct Part {
    std::filesystem::path path;
    std::uint64_t size = 0;
  };
  [[nodiscard]] std::span<const Part> parts() const;

 private:
  struct State;
  explicit File(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The slice of `tensor` that belongs to `expert`, when the tensor's last dimension counts
/// experts (shape {in, out, experts} or {n, experts}): the byte range
/// [expert * stride, (expert + 1) * stride) of its data. kInvalidArgument: no such expert, or a
/// slice that is no whole number of blocks.
base::Result<ByteRange> expert_range(const TensorInfo& tensor, std::uint64_t expert);

}  // namespace conclave::gguf
