// The sums of files that were read before, so that a start need not read a model of gigabytes only
// to name it. A file counts as the one that was read as long as its path, size, times of change,
// inode and device are the same; who changes bytes behind those (a disk that rots, an administrator
// who sets clocks back) is not noticed here, but by the workers, which sum each expert they load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/wire/common.hpp"

namespace conclave::catalog {

/// Which file, and in which state.
struct FileStamp {
  std::filesystem::path path;  // absolute
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;  // mtime
  std::int64_t changed_ns = 0;   // ctime: cannot be set
  std::uint64_t inode = 0;
  std::uint64_t device = 0;

  /// kNotFound, kUnavailable.
  static base::Result<FileStamp> of(const std::filesystem::path& path);

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

/// What reading all of a model gives.
struct ModelSums {
  std::string file;                  // 64 hex digits, over all parts
  wire::Sha256 backbone{};           // as model/digest.hpp defines it, like the next
  std::vector<wire::Sha256> expert;  // (layer, expert)

  friend bool operator==(const ModelSums&, const ModelSums&) = default;
};

/// A directory with one small file for each model. It may be deleted at any time. Any thread, and
/// any number of processes at once: files are replaced whole. Whoever may write to the directory is
/// trusted with the sums, as with the database of a registry.
class SumStore {
 public:
  /// Files kept; beyond it the oldest go. 256 models are more than anybody has on one disk.
  static constexpr std::size_t kFilesMax = 256;

  explicit SumStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// The sums of the model with these parts, if they were kept and neither the parts nor what was
  /// kept has changed since. `experts`: how many there must be.
  [[nodiscard]] std::optional<ModelSums> find(std::span<const FileStamp> parts,
                                              std::size_t experts) const;

  /// In place of what was kept of this path. kUnavailable: the directory cannot be written.
  base::Status keep(std::span<const FileStamp> parts, const ModelSums& sums) const;

 private:
  [[nodiscard]] std::filesystem::path file_of(std::span<const FileStamp> parts) const;
  void drop_oldest() const;

  std::filesystem::path directory_;
};

}  // namespace conclave::catalog
