// Pieces of models on a local disk, by the SHA-256 of their bytes, and names for some of them. Any
// number of processes and threads share a directory:
//
//   blobs/ab/abcd..   the bytes; whole and with this sum, or not there
//   names/12/1234..   a sum; called after the sum of the name
//   tmp/              what is being made, each held by a lock of its maker
//   lock, bytes       held while files come, go and are counted; how many bytes there are
//
// A file is made in tmp/, synced and renamed, so that a process that is killed leaves at most a
// file in tmp/, which the next one to open the cache removes. Bounded by bytes: the pieces longest
// unused go first. Who may write to the directory is trusted with the names, so it belongs to one
// user.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "descriptor.hpp"

namespace conclave::artifacts {

/// A directory of its own in tmp/, which is gone in the end, whatever becomes of its process.
class Scratch {
 public:
  Scratch(std::filesystem::path path, Descriptor held)
      : path_(std::move(path)), held_(std::move(held)) {}
  Scratch(Scratch&&) = default;
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  Descriptor held_;  // its lock; none after a move
};

/// Made with the process, so that they are there before a cache is.
struct CacheMetrics {
  explicit CacheMetrics(telemetry::Metrics& metrics);

  telemetry::Counter& evicted;
  telemetry::Gauge& bytes;
};

class Cache {
 public:
  /// Makes the directory if there is none, removes what was left in tmp/ and counts what is there.
  /// kUnavailable: the system refuses; kFailedPrecondition: others may write to the directory.
  static base::Result<std::unique_ptr<Cache>> open(const std::filesystem::path& directory,
                                                   std::uint64_t bytes_max,
                                                   const CacheMetrics& metrics);

  /// Open for reading; stays readable whatever happens to the cache. Not known to be whole on a
  /// disk that rots: whoever reads it sums it, and drops it if it is wrong.
  [[nodiscard]] std::optional<Descriptor> find(const model::Sha256& sum) const;
  void drop(const model::Sha256& sum) const;

  /// Takes the bytes of `from` in their order. kCorruptData: they have another sum. What is larger
  /// than the cache is not taken, which is no error.
  base::Status put(const model::Sha256& sum, std::span<const FileRange> from);

  [[nodiscard]] std::optional<model::Sha256> find_name(std::string_view name) const;
  base::Status put_name(std::string_view name, const model::Sha256& sum);

  base::Result<Scratch> scratch();

 private:
  Cache(std::filesystem::path directory, std::uint64_t bytes_max, const CacheMetrics& metrics);

  class Lock;
  struct Made;

  [[nodiscard]] std::filesystem::path path_of(std::string_view kind, const std::string& hex) const;
  base::Result<Made> make(bool directory) const;
  base::Status adopt(const Made& made, const std::filesystem::path& path) const;
  void clean() const;
  void make_room(std::uint64_t bytes) const;
  void forget_lost_names() const;
  [[nodiscard]] std::uint64_t counted() const;
  void count(std::uint64_t bytes) const;

  const std::filesystem::path directory_;
  const std::uint64_t bytes_max_;
  const CacheMetrics metrics_;
};

}  // namespace conclave::artifacts
