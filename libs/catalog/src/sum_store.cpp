// A file of sums is text, a sum a line:
//   conclave sums 1
//   <of the stamps> <of the file> <of the backbone> <of each expert> ..
//   <of all the lines before>
#include "conclave/catalog/sum_store.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "conclave/model/digest.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
namespace fs = std::filesystem;

constexpr std::string_view kHeader = "conclave sums 1\n";
constexpr std::string_view kSuffix = ".sums";
constexpr std::size_t kHexDigits = 2 * sizeof(wire::Sha256);
constexpr std::size_t kLine = kHexDigits + 1;

std::string hex_sum(std::string_view text) {
  model::Sha256Hasher hasher;
  hasher.update(std::as_bytes(std::span(text)));
  return model::to_hex(hasher.finish());
}

// Every field ends with a zero, which no path has.
std::string sum_of(std::span<const FileStamp> parts) {
  std::string text;
  for (const FileStamp& part : parts) {
    for (const std::string& field :
         {part.path.string(), std::to_string(part.size), std::to_string(part.modified_ns),
          std::to_string(part.changed_ns), std::to_string(part.inode),
          std::to_string(part.device)}) {
      text += field + '\0';
    }
  }
  return hex_sum(text);
}

std::optional<unsigned> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  return {};
}

std::optional<wire::Sha256> from_hex(std::string_view text) {
  wire::Sha256 sum{};
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const auto high = digit(text[2 * i]);
    const auto low = digit(text[2 * i + 1]);
    if (!high || !low) return {};
    sum[i] = static_cast<std::uint8_t>(*high << 4 | *low);
  }
  return sum;
}

// All of a file of exactly `size` bytes.
std::optional<std::string> read(const fs::path& path, std::size_t size) {
  std::error_code error;
  if (fs::file_size(path, error) != size || error) return {};
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) return {};
  return text;
}

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

base::Result<FileStamp> FileStamp::of(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
                path.string() + ": " + std::generic_category().message(errno));
  }
  return FileStamp{fs::absolute(path).lexically_normal(),
                   static_cast<std::uint64_t>(info.st_size),
                   nanoseconds(info.st_mtim),
                   nanoseconds(info.st_ctim),
                   info.st_ino,
                   info.st_dev};
}

fs::path SumStore::file_of(std::span<const FileStamp> parts) const {
  return directory_ / (hex_sum(parts.front().path.string()) + std::string(kSuffix));
}

std::optional<ModelSums> SumStore::find(std::span<const FileStamp> parts,
                                        std::size_t experts) const {
  const std::size_t body = kHeader.size() + (3 + experts) * kLine;
  const auto text = read(file_of(parts), body + kLine);
  if (!text || !text->starts_with(kHeader)) return {};
  const std::string_view all(*text);
  const auto line = [&](std::size_t index) {
    return all.substr(kHeader.size() + index * kLine, kHexDigits);
  };
  if (line(0) != sum_of(parts) || all.substr(body, kHexDigits) != hex_sum(all.substr(0, body))) {
    return {};
  }
  ModelSums sums;
  sums.file = line(1);
  sums.expert.resize(experts);
  for (std::size_t i = 0; i <= experts; ++i) {
    const auto sum = from_hex(line(2 + i));
    if (!sum) return {};
    (i == 0 ? sums.backbone : sums.expert[i - 1]) = *sum;
  }
  return sums;
}

base::Status SumStore::keep(std::span<const FileStamp> parts, const ModelSums& sums) const {
  std::string text(kHeader);
  text += sum_of(parts) + "\n" + sums.file + "\n" + model::to_hex(sums.backbone) + "\n";
  for (const wire::Sha256& sum : sums.expert) text += model::to_hex(sum) + "\n";
  text += hex_sum(text) + "\n";

  std::error_code error;
  fs::create_directories(directory_, error);
  const fs::path path = file_of(parts);
  const fs::path draft = path.string() + "." + std::to_string(::getpid());
  std::ofstream file(draft, std::ios::binary | std::ios::trunc);
  if (!(file << text << std::flush)) {
    fs::remove(draft, error);
    return fail(ErrorCode::kUnavailable, draft.string() + " cannot be written");
  }
  fs::rename(draft, path, error);
  if (error) return fail(ErrorCode::kUnavailable, path.string() + ": " + error.message());
  drop_oldest();
  return {};
}

void SumStore::drop_oldest() const {
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  for (auto entry = fs::directory_iterator(directory_, error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() != kSuffix) continue;
    std::error_code gone;
    files.emplace_back(entry->last_write_time(gone), entry->path());
  }
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i + kFilesMax < files.size(); ++i) fs::remove(files[i].second, error);
}

}  // namespace conclave::catalog
