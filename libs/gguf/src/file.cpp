#include "conclave/gguf/file.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/base/mapped_file.hpp"
#include "format.hpp"
#include "parser.hpp"
#include "split.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using base::fail;

struct MappedPart {
  base::MappedFile mapping;
  ParsedPart parsed;
  SplitInfo split;
};

// Index in `parts` is not known until the metadata has been read, so ranges get it at the end.
base::Result<MappedPart> load_part(const std::filesystem::path& path) {
  CONCLAVE_TRY(auto mapping, base::MappedFile::open(path));
  auto parsed = parse_part(mapping.bytes(), 0);
  if (!parsed) return fail(std::move(parsed).error().within(path.string()));
  auto split = split_info(parsed->metadata);
  if (!split) return fail(std::move(split).error().within(path.string()));
  return MappedPart{std::move(mapping), std::move(*parsed), *split};
}

base::Status check_agreement(const MappedPart& part, std::uint32_t index, const SplitInfo& split) {
  if (part.split.index == index && part.split.count == split.count &&
      part.split.tensor_count == split.tensor_count) {
    return {};
  }
  const auto show = [](const SplitInfo& s) {
    return "part " + std::to_string(s.index + 1) + " of " + std::to_string(s.count) + " with " +
           std::to_string(s.tensor_count) + " tensors";
  };
  return fail(ErrorCode::kCorruptData, "it says that it is " + show(part.split) + ", expected " +
                                           show({index, split.count, split.tensor_count}));
}

}  // namespace

struct File::State {
  std::vector<base::MappedFile> mappings;  // empty when the bytes are the caller's
  std::vector<std::span<const std::byte>> part_bytes;
  std::vector<Part> parts;
  std::uint32_t version = 0;
  std::uint32_t alignment = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::vector<std::uint32_t> by_name;  // indices of tensors, sorted by name

  // Parts come in order; the first gives version, alignment and metadata.
  void add(std::span<const std::byte> bytes, std::filesystem::path path, ParsedPart parsed) {
    const auto part = static_cast<std::uint32_t>(parts.size());
    if (part == 0) {
      version = parsed.version;
      alignment = parsed.alignment;
      metadata = std::move(parsed.metadata);
    }
    for (TensorInfo& tensor : parsed.tensors) {
      tensor.range.part = part;
      tensors.push_back(std::move(tensor));
    }
    part_bytes.push_back(bytes);
    parts.push_back({std::move(path), bytes.size()});
  }

  base::Status index_names() {
    by_name.resize(tensors.size());
    for (std::uint32_t i = 0; i < by_name.size(); ++i) by_name[i] = i;
    std::sort(by_name.begin(), by_name.end(),
              [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name < tensors[b].name; });
    const auto twin = std::adjacent_find(
        by_name.begin(), by_name.end(),
        [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name == tensors[b].name; });
    if (twin == by_name.end()) return {};
    const TensorInfo& first = tensors[*twin];
    const TensorInfo& second = tensors[*(twin + 1)];
    return fail(ErrorCode::kCorruptData, "tensor name " + shown(first.name) +
                                             " is a duplicate: data at offsets " +
                                             std::to_string(first.range.offset) + " and " +
                                             std::to_string(second.range.offset));
  }
};

std::uint64_t TensorInfo::elements() const {
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : shape) product *= dimension;
  return product;
}

std::string TensorInfo::describe() const {
  std::string text(traits(type).name);
  text += " [";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

base::Result<File> File::open(const std::filesystem::path& path) {
  CONCLAVE_TRY(auto given, load_part(path));
  const SplitInfo split = given.split;
  std::vector<std::filesystem::path> paths{path};
  if (split.count > 1) {
    auto named = part_paths(path, split);
    if (!named) return fail(std::move(named).error().within(path.string()));
    paths = std::move(*named);
  }
  auto state = std::make_unique<State>();
  for (std::uint32_t i = 0; i < split.count; ++i) {
    std::optional<MappedPart> part;
    if (i == split.index) {
      part = std::move(given);
    } else {
      auto loaded = load_part(paths[i]);
      if (!loaded) {
        return fail(std::move(loaded).error().within("part " + std::to_string(i + 1) + " of " +
                                                     std::to_string(split.count)));
      }
      part = std::move(*loaded);
    }
    if (auto agrees = check_agreement(*part, i, split); !agrees) {
      return fail(std::move(agrees).error().within(paths[i].string()));
    }
    state->mappings.push_back(std::move(part->mapping));
    state->add(state->mappings.back().bytes(), paths[i], std::move(part->parsed));
  }
  if (split.count > 1 && state->tensors.size() != split.tensor_count) {
    return fail(ErrorCode::kCorruptData,
                path.string() + ": its parts have " + std::to_string(state->tensors.size()) +
                    " tensors, split.tensors.count says " + std::to_string(split.tensor_count));
  }
  if (auto indexed = state->index_names(); !indexed) {
    return fail(std::move(indexed).error().within(path.string()));
  }
  return File(std::move(state));
}

base::Result<File> File::parse(std::span<const std::byte> bytes) {
  CONCLAVE_TRY(auto parsed, parse_part(bytes, 0));
  CONCLAVE_TRY(const SplitInfo split, split_info(parsed.metadata));
  if (split.count > 1) {
    return fail(ErrorCode::kInvalidArgument, "part " + std::to_string(split.index + 1) + " of " +
                                                 std::to_string(split.count) +
                                                 " of a split model: open it by its path");
  }
  auto state = std::make_unique<State>();
  state->add(bytes, {}, std::move(parsed));
  CONCLAVE_TRY_VOID(state->index_names());
  return File(std::move(state));
}

File::File(std::unique_ptr<State> state) : state_(std::move(state)) {}
File::File(File&&) noexcept = default;
File& File::operator=(File&&) noexcept = default;
File::~File() = default;

std::uint32_t File::version() const { return state_->version; }
std::uint32_t File::alignment() const { return state_->alignment; }
const Metadata& File::metadata() const { return state_->metadata; }
std::span<const TensorInfo> File::tensors() const { return state_->tensors; }
std::span<const File::Part> File::parts() const { return state_->parts; }

const TensorInfo* File::find(std::string_view name) const {
  const auto& by_name = state_->by_name;
  const auto& tensors = state_->tensors;
  const auto at = std::lower_bound(
      by_name.begin(), by_name.end(), name,
      [&](std::uint32_t index, std::string_view n) { return tensors[index].name < n; });
  if (at == by_name.end() || tensors[*at].name != name) return nullptr;
  return &tensors[*at];
}

std::span<const std::byte> File::bytes(const TensorInfo& tensor) const {
  return bytes(tensor.range);
}

std::span<const std::byte> File::bytes(const ByteRange& range) const {
  CONCLAVE_CHECK(range.part < state_->part_bytes.size());
  const auto part = state_->part_bytes[range.part];
  CONCLAVE_CHECK(range.offset <= part.size() && range.size <= part.size() - range.offset);
  return part.subspan(static_cast<std::size_t>(range.offset), static_cast<std::size_t>(range.size));
}

void File::will_need(const ByteRange& range) const {
  const auto wanted = bytes(range);
  if (!state_->mappings.empty()) state_->mappings[range.part].will_need(wanted);
}

void File::forget(const ByteRange& range) const {
  const auto done = bytes(range);
  if (!state_->mappings.empty()) state_->mappings[range.part].forget(done);
}

void File::forget() const {
  for (const base::MappedFile& mapping : state_->mappings) mapping.forget(mapping.bytes());
}

base::Result<ByteRange> expert_range(const TensorInfo& tensor, std::uint64_t expert) {
  const auto refuse = [&](const std::string& why) {
    return fail(ErrorCode::kInvalidArgument,
                "tensor " + shown(tensor.name) + ", " + tensor.describe() + ": " + why);
  };
  if (tensor.shape.size() < 2) return refuse("it has no dimension that counts experts");
  const std::uint64_t experts = tensor.shape.back();
  if (expert >= experts) {
    return refuse("expert " + std::to_string(expert) + " of " + std::to_string(experts));
  }
  const auto stride = bytes_of(tensor.type, tensor.elements() / experts);
  if (!stride || tensor.range.size / experts != *stride || tensor.range.size % experts != 0) {
    return refuse("an expert's slice is no whole number of blocks");
  }
  return ByteRange{tensor.range.part, tensor.range.offset + expert * *stride, *stride};
}

}  // namespace conclave::gguf
