#include "cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace fs = std::filesystem;

namespace {

// Room is made for a tenth at once, so that the directory is not listed for every piece.
constexpr std::uint64_t kSlack = 10;
// Other makers of the same number live in other containers, or died.
constexpr int kNamesTried = 1000;

std::string hex_of(std::string_view name) {
  model::Sha256Hasher hasher;
  hasher.update(std::as_bytes(std::span(name)));
  return model::to_hex(hasher.finish());
}

std::optional<model::Sha256> sum_from(std::string_view hex) {
  model::Sha256 sum{};
  if (hex.size() != 2 * sum.size()) return {};
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const int high = digit(hex[2 * i]);
    const int low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return {};
    sum[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return sum;
}

template <class Visit>
void for_each_file(const fs::path& directory, Visit visit) {
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(directory, error);
       !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code gone;
    if (entry->is_regular_file(gone)) visit(*entry);
  }
}

Status make_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error(path, errno);
  return {};
}

}  // namespace

// ---- what is being made

// One holder at a time, of all processes and threads; waits for the one before.
class Cache::Lock {
 public:
  explicit Lock(const fs::path& directory)
      : file_(::open((directory / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    while (file_ && ::flock(file_.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
  }

 private:
  Descriptor file_;
};

struct Cache::Made {
  fs::path path;
  Descriptor held;
};

Scratch::~Scratch() {
  if (!held_) return;
  std::error_code error;
  fs::remove_all(path_, error);
}

// Made and locked while nobody cleans, who would take it for one that was left.
Result<Cache::Made> Cache::make(bool directory) const {
  static std::atomic<std::uint64_t> next{0};
  const Lock lock(directory_);
  for (int tried = 0; tried < kNamesTried; ++tried) {
    fs::path path =
        directory_ / "tmp" / (std::to_string(::getpid()) + "-" + std::to_string(next++));
    if (directory && ::mkdir(path.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      return system_error(path, errno);
    }
    const int flags = directory ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_EXCL;
    Descriptor held(::open(path.c_str(), flags | O_CLOEXEC, 0600));
    if (!held && errno == EEXIST) continue;
    if (!held || ::flock(held.get(), LOCK_EX | LOCK_NB) != 0) return system_error(path, errno);
    return Made{std::move(path), std::move(held)};
  }
  return fail(ErrorCode::kUnavailable, (directory_ / "tmp").string() + " is full of leftovers");
}

// Under the lock: what nobody holds any more.
void Cache::clean() const {
  std::error_code error;
  for (auto entry = fs::directory_iterator(directory_ / "tmp", error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const Descriptor file(::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) continue;
    std::error_code gone;
    fs::remove_all(entry->path(), gone);
  }
}

// Under the lock: in its place, with everything in it.
Status Cache::adopt(const Made& made, const fs::path& path) const {
  CONCLAVE_TRY_VOID(make_directory(path.parent_path()));
  if (::fdatasync(made.held.get()) != 0) return system_error(made.path, errno);
  if (::rename(made.path.c_str(), path.c_str()) != 0) return system_error(path, errno);
  return {};
}

// ---- life

CacheMetrics::CacheMetrics(telemetry::Metrics& metrics)
    : evicted(metrics.counter("conclave_artifacts_cache_evicted_bytes_total",
                              "Bytes of pieces of models that had to make room for others")),
      bytes(metrics.gauge("conclave_artifacts_cache_bytes",
                          "Bytes of the pieces of models in the cache")) {}

Cache::Cache(fs::path directory, std::uint64_t bytes_max, const CacheMetrics& metrics)
    : directory_(std::move(directory)), bytes_max_(bytes_max), metrics_(metrics) {}

Result<std::unique_ptr<Cache>> Cache::open(const fs::path& directory, std::uint64_t bytes_max,
                                           const CacheMetrics& metrics) {
  CONCLAVE_TRY_VOID(make_directory(directory));
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0) return system_error(directory, errno);
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(ErrorCode::kFailedPrecondition,
                directory.string() +
                    " is writable by others: artifacts.cache must be a directory "
                    "of this user alone");
  }
  std::unique_ptr<Cache> cache(new Cache(directory, bytes_max, metrics));
  for (const char* part : {"blobs", "names", "tmp"}) {
    CONCLAVE_TRY_VOID(make_directory(directory / part));
  }
  const Lock lock(directory);
  cache->clean();
  std::uint64_t bytes = 0;
  for_each_file(directory / "blobs", [&bytes](const fs::directory_entry& file) {
    std::error_code gone;
    const std::uint64_t size = file.file_size(gone);
    if (!gone) bytes += size;
  });
  cache->count(bytes);
  if (bytes > bytes_max) cache->make_room(0);
  return cache;
}

fs::path Cache::path_of(std::string_view kind, const std::string& hex) const {
  return directory_ / kind / hex.substr(0, 2) / hex;
}

// ---- pieces

std::optional<Descriptor> Cache::find(const model::Sha256& sum) const {
  Descriptor file(
      ::open(path_of("blobs", model::to_hex(sum)).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return {};
  ::futimens(file.get(), nullptr);  // used now
  return file;
}

void Cache::drop(const model::Sha256& sum) const {
  const Lock lock(directory_);
  const fs::path path = path_of("blobs", model::to_hex(sum));
  std::error_code error;
  const std::uint64_t size = fs::file_size(path, error);
  if (!error && fs::remove(path, error)) count(counted() - std::min(counted(), size));
}

Status Cache::put(const model::Sha256& sum, std::span<const FileRange> from) {
  std::uint64_t size = 0;
  for (const FileRange& range : from) size += range.size;
  if (size > bytes_max_) return {};
  CONCLAVE_TRY(const Made made, make(false));
  model::Sha256Hasher hasher;
  std::error_code error;
  Status copied = copy(from, made.held.get(), 0, &hasher);
  if (copied && hasher.finish() != sum) {
    copied = fail(ErrorCode::kCorruptData, "the bytes are not those of the sum");
  }
  // The long part of syncing, before others wait for it.
  if (copied && ::fdatasync(made.held.get()) != 0) copied = system_error(made.path, errno);
  if (!copied) {
    fs::remove(made.path, error);
    return copied;
  }
  const Lock lock(directory_);
  const fs::path path = path_of("blobs", model::to_hex(sum));
  if (fs::exists(path, error)) {
    fs::remove(made.path, error);
    return {};
  }
  if (counted() + size > bytes_max_) make_room(size);
  if (Status adopted = adopt(made, path); !adopted) {
    fs::remove(made.path, error);
    return adopted;
  }
  count(counted() + size);
  return {};
}

// Under the lock: until so many bytes more fit, and some beyond.
void Cache::make_room(std::uint64_t bytes) const {
  struct Blob {
    fs::file_time_type used;
    std::uint64_t size;
    fs::path path;
  };
  std::vector<Blob> blobs;
  std::uint64_t total = 0;
  for_each_file(directory_ / "blobs", [&](const fs::directory_entry& file) {
    std::error_code gone;
    Blob blob{file.last_write_time(gone), gone ? 0 : file.file_size(gone), file.path()};
    if (gone) return;
    total += blob.size;
    blobs.push_back(std::move(blob));
  });
  std::sort(blobs.begin(), blobs.end(), [](const Blob& a, const Blob& b) {
    return std::tie(a.used, a.path) < std::tie(b.used, b.path);
  });
  const std::uint64_t most = bytes_max_ - bytes;
  const std::uint64_t wanted = most - std::min(most, bytes_max_ / kSlack);
  for (const Blob& blob : blobs) {
    if (total <= wanted) break;
    std::error_code error;
    if (!fs::remove(blob.path, error)) continue;
    total -= blob.size;
    metrics_.evicted.add(static_cast<double>(blob.size));
  }
  count(total);
  forget_lost_names();
}

std::uint64_t Cache::counted() const {
  std::uint64_t bytes = 0;
  std::ifstream(directory_ / "bytes") >> bytes;
  return bytes;
}

// A crash in between leaves a wrong count until somebody opens the cache, no longer.
void Cache::count(std::uint64_t bytes) const {
  std::ofstream(directory_ / "bytes", std::ios::trunc) << bytes;
  metrics_.bytes.set(static_cast<double>(bytes));
}

// ---- names

std::optional<model::Sha256> Cache::find_name(std::string_view name) const {
  std::ifstream file(path_of("names", hex_of(name)));
  std::string hex;
  file >> hex;
  return sum_from(hex);
}

Status Cache::put_name(std::string_view name, const model::Sha256& sum) {
  CONCLAVE_TRY(const Made made, make(false));
  const std::string hex = model::to_hex(sum);
  Status written = write_at(made.held.get(), 0, std::as_bytes(std::span(hex)));
  if (written) {
    const Lock lock(directory_);
    written = adopt(made, path_of("names", hex_of(name)));
  }
  std::error_code error;
  if (!written) fs::remove(made.path, error);
  return written;
}

void Cache::forget_lost_names() const {
  for_each_file(directory_ / "names", [this](const fs::directory_entry& file) {
    std::string hex;
    std::ifstream(file.path()) >> hex;
    std::error_code error;
    if (!sum_from(hex) || !fs::exists(path_of("blobs", hex), error)) fs::remove(file.path(), error);
  });
}

Result<Scratch> Cache::scratch() {
  CONCLAVE_TRY(Made made, make(true));
  return Scratch(std::move(made.path), std::move(made.held));
}

}  // namespace conclave::artifacts
