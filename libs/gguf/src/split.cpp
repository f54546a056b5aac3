#include "split.hpp"

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "conclave/gguf/header.hpp"
#include "limits.hpp"

namespace conclave::gguf {
namespace {

constexpr std::string_view kIndexKey = "split.no";
constexpr std::string_view kCountKey = "split.count";
constexpr std::string_view kTensorCountKey = "split.tensors.count";

// A key that belongs to `split.count`: without it the file is broken, not absent.
template <class T>
base::Result<T> required(const Metadata& metadata, std::string_view key) {
  auto value = metadata.get<T>(key);
  if (!value) return base::fail(base::ErrorCode::kCorruptData, std::move(value).error().message);
  return value;
}

}  // namespace

std::string part_suffix(std::uint32_t part, std::uint32_t parts) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05u-of-%05u.gguf", part + 1, parts);
  return text;
}

base::Result<SplitInfo> split_info(const Metadata& metadata) {
  SplitInfo split;
  CONCLAVE_TRY(const auto count, metadata.get_or<std::uint32_t>(kCountKey, 0));
  if (count <= 1) return split;
  split.count = count;
  CONCLAVE_TRY(split.index, required<std::uint32_t>(metadata, kIndexKey));
  CONCLAVE_TRY(split.tensor_count, required<std::uint64_t>(metadata, kTensorCountKey));
  if (count > limits::kPartsMax) {
    return base::fail(base::ErrorCode::kCorruptData, "split.count is " + std::to_string(count) +
                                                         ", more than the limit of " +
                                                         std::to_string(limits::kPartsMax));
  }
  if (split.index >= count) {
    return base::fail(
        base::ErrorCode::kCorruptData,
        "split.no is " + std::to_string(split.index) + " of split.count " + std::to_string(count));
  }
  return split;
}

base::Result<std::vector<std::filesystem::path>> part_paths(const std::filesystem::path& path,
                                                            const SplitInfo& split) {
  const std::string name = path.filename().string();
  const std::string own = part_suffix(split.index, split.count);
  if (!name.ends_with(own)) {
    return base::fail(
        base::ErrorCode::kNotFound,
        "it is part " + std::to_string(split.index + 1) + " of " + std::to_string(split.count) +
            " of a split model, whose parts are found by name: it must end in " + own);
  }
  const std::string prefix = name.substr(0, name.size() - own.size());
  std::vector<std::filesystem::path> paths;
  paths.reserve(split.count);
  for (std::uint32_t i = 0; i < split.count; ++i) {
    paths.push_back(path.parent_path() / (prefix + part_suffix(i, split.count)));
  }
  return paths;
}

}  // namespace conclave::gguf
