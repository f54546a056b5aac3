#include "parser.hpp"

#include <algorithm>
#include <string>

#include "byte_reader.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/gguf/header.hpp"
#include "format.hpp"
#include "limits.hpp"
#include "metadata_parser.hpp"
#include "split.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using base::fail;

// name length, one byte of name, dimension count, one dimension, type, offset
constexpr std::uint64_t kTensorBytesMin = 8 + 1 + 4 + 8 + 4 + 8;

tl::unexpected<base::Error> corrupt(std::string message) {
  return fail(ErrorCode::kCorruptData, std::move(message));
}

base::Result<std::uint32_t> read_version(ByteReader& reader) {
  CONCLAVE_TRY(const auto magic, reader.read<std::uint32_t>("magic"));
  if (magic == kMagicByteSwapped) {
    return fail(ErrorCode::kUnimplemented, "big-endian GGUF is not supported: convert the file");
  }
  if (magic != kMagic) return corrupt("not a GGUF file: it does not start with \"GGUF\"");
  CONCLAVE_TRY(const auto version, reader.read<std::uint32_t>("version"));
  // A byte-swapped version has its small number in the high half.
  if (version != 0 && (version & 0xFFFF) == 0) {
    return fail(ErrorCode::kUnimplemented, "big-endian GGUF is not supported: convert the file");
  }
  if (version == 0) return corrupt("GGUF version 0 at offset 4 does not exist");
  if (version < kVersionMin || version > kVersionMax) {
    return fail(ErrorCode::kUnimplemented, "GGUF version " + std::to_string(version) +
                                               " is not supported, only versions 2 and 3 are");
  }
  return version;
}

base::Result<std::string_view> read_name(ByteReader& reader) {
  CONCLAVE_TRY(const auto name, reader.read_string("tensor name", limits::kTensorNameBytesMax));
  if (name.empty()) return corrupt("the name is empty");
  if (!base::utf8::valid(name)) return corrupt("name " + shown(name) + " is not valid UTF-8");
  return name;
}

base::Result<std::vector<std::uint64_t>> read_shape(ByteReader& reader) {
  CONCLAVE_TRY(const auto rank, reader.read<std::uint32_t>("dimension count"));
  if (rank == 0 || rank > limits::kDimensionsMax) {
    return corrupt(std::to_string(rank) + " dimensions, expected 1 to " +
                   std::to_string(limits::kDimensionsMax));
  }
  std::vector<std::uint64_t> shape;
  shape.reserve(rank);
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    CONCLAVE_TRY(const auto dimension, reader.read<std::uint64_t>("dimension"));
    if (dimension == 0) return corrupt("dimension " + std::to_string(i) + " is 0");
    if (dimension > limits::kElementsMax / elements) {
      return corrupt("dimension " + std::to_string(i) + " of " + std::to_string(dimension) +
                     " makes more elements than 64 bits count");
    }
    elements *= dimension;
    shape.push_back(dimension);
  }
  return shape;
}

// Everything but the name, with `range.offset` as in the file: relative to the data.
base::Status read_layout(ByteReader& reader, TensorInfo& tensor) {
  CONCLAVE_TRY(tensor.shape, read_shape(reader));
  CONCLAVE_TRY(const auto type_id, reader.read<std::uint32_t>("tensor type"));
  const auto type = block_type_from_id(type_id);
  if (!type) {
    return fail(ErrorCode::kUnimplemented,
                "tensor type " + type_name(type_id) + " is not supported");
  }
  tensor.type = *type;
  const BlockTraits block = traits(*type);
  if (tensor.shape[0] % block.elements != 0) {
    return corrupt("rows of " + std::to_string(tensor.shape[0]) +
                   " elements are no whole number of " + std::string(block.name) + " blocks of " +
                   std::to_string(block.elements));
  }
  const auto size = bytes_of(*type, tensor.elements());
  if (!size) return corrupt(tensor.describe() + " is larger than any memory");
  tensor.range.size = *size;
  CONCLAVE_TRY(tensor.range.offset, reader.read<std::uint64_t>("tensor offset"));
  return {};
}

base::Result<std::vector<TensorInfo>> read_tensors(ByteReader& reader, std::uint64_t count,
                                                   std::uint32_t part) {
  CONCLAVE_TRY_VOID(reader.check_count(count, kTensorBytesMin, "tensors"));
  std::vector<TensorInfo> tensors;
  tensors.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string where = " at offset " + std::to_string(reader.offset());
    auto name = read_name(reader);
    if (!name) {
      return fail(std::move(name).error().within("tensor " + std::to_string(i) + where));
    }
    TensorInfo tensor{std::string(*name), {}, BlockType::kF32, {part, 0, 0}};
    if (auto read = read_layout(reader, tensor); !read) {
      return fail(std::move(read).error().within("tensor " + shown(*name) + where));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// Turns offsets relative to `data_start` into offsets in the file, and checks them.
base::Status place_tensors(std::vector<TensorInfo>& tensors, std::uint64_t data_start,
                           std::uint64_t file_size, std::uint32_t alignment) {
  const std::uint64_t data_size = file_size > data_start ? file_size - data_start : 0;
  for (TensorInfo& tensor : tensors) {
    ByteRange& range = tensor.range;
    if (range.offset % alignment != 0) {
      return corrupt("tensor " + shown(tensor.name) + ": its data offset " +
                     std::to_string(range.offset) + " is no multiple of the alignment " +
                     std::to_string(alignment));
    }
    if (range.offset > data_size || range.size > data_size - range.offset) {
      return corrupt("tensor " + shown(tensor.name) + ": its " + std::to_string(range.size) +
                     " bytes at data offset " + std::to_string(range.offset) +
                     " (data starts at offset " + std::to_string(data_start) +
                     ") reach beyond the file of " + std::to_string(file_size) +
                     " bytes; an incomplete download?");
    }
    range.offset += data_start;
  }
  return {};
}

base::Status check_overlaps(const std::vector<TensorInfo>& tensors) {
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->range.offset < b->range.offset;
  });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& before = *by_offset[i - 1];
    const TensorInfo& after = *by_offset[i];
    if (after.range.offset - before.range.offset < before.range.size) {
      return corrupt("tensors " + shown(before.name) + " and " + shown(after.name) +
                     " overlap at offset " + std::to_string(after.range.offset));
    }
  }
  return {};
}

}  // namespace

namespace {

// All that comes before the data, with the tensors' offsets as in the file.
base::Result<ParsedPart> parse_header(ByteReader& reader, std::uint32_t part) {
  ParsedPart parsed;
  CONCLAVE_TRY(parsed.version, read_version(reader));
  CONCLAVE_TRY(const auto tensor_count, reader.read<std::uint64_t>("tensor count"));
  CONCLAVE_TRY(const auto key_count, reader.read<std::uint64_t>("metadata key count"));
  CONCLAVE_TRY(parsed.metadata, parse_metadata(reader, key_count));
  CONCLAVE_TRY(parsed.alignment, alignment_of(parsed.metadata));
  CONCLAVE_TRY(parsed.tensors, read_tensors(reader, tensor_count, part));
  return parsed;
}

}  // namespace

base::Result<ParsedPart> parse_part(std::span<const std::byte> bytes, std::uint32_t part) {
  ByteReader reader(bytes, limits::kHeaderBytesMax);
  CONCLAVE_TRY(ParsedPart parsed, parse_header(reader, part));
  const std::uint64_t data_start = align_up(reader.offset(), parsed.alignment);
  CONCLAVE_TRY_VOID(place_tensors(parsed.tensors, data_start, bytes.size(), parsed.alignment));
  CONCLAVE_TRY_VOID(check_overlaps(parsed.tensors));
  return parsed;
}

base::Result<std::optional<Header>> read_header(std::span<const std::byte> prefix,
                                                std::uint64_t file_size) {
  ByteReader reader(prefix, limits::kHeaderBytesMax);
  const auto parsed = parse_header(reader, 0);
  if (!parsed) {
    const bool is_all = prefix.size() >= file_size || prefix.size() >= limits::kHeaderBytesMax;
    if (reader.ran_out() && !is_all) return std::optional<Header>();
    return fail(parsed.error());
  }
  CONCLAVE_TRY(const SplitInfo split, split_info(parsed->metadata));
  return std::optional<Header>(Header{reader.offset(), split.index, split.count});
}

}  // namespace conclave::gguf
