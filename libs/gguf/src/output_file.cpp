#include "output_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

namespace conclave::gguf {
namespace {

// More leftovers than this of one process beside one path mean that something else is wrong.
constexpr int kNamesTried = 64;

tl::unexpected<base::Error> system_error(const std::filesystem::path& path, int error) {
  const auto code = error == ENOENT ? base::ErrorCode::kNotFound : base::ErrorCode::kUnavailable;
  return base::fail(code, path.string() + ": " + std::generic_category().message(error));
}

}  // namespace

base::Result<OutputFile> OutputFile::create(const std::filesystem::path& path) {
  int error = EEXIST;
  for (int attempt = 0; attempt < kNamesTried && error == EEXIST; ++attempt) {
    std::filesystem::path temporary = path;
    temporary += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
    // O_EXCL: two writers never share a temporary, and no link is followed.
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return OutputFile(descriptor, std::move(temporary), path);
    error = errno;
  }
  return system_error(path, error);
}

OutputFile::OutputFile(int descriptor, std::filesystem::path temporary, std::filesystem::path path)
    : descriptor_(descriptor), temporary_(std::move(temporary)), path_(std::move(path)) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      temporary_(std::move(other.temporary_)),
      path_(std::move(other.path_)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(temporary_, other.temporary_);
  std::swap(path_, other.path_);
  return *this;
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

base::Status OutputFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error(path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

base::Status OutputFile::commit() {
  // Without the sync a crash could leave the new name on a file whose blocks were never written.
  if (::fsync(descriptor_) != 0) return system_error(path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return system_error(path_, errno);
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0) return system_error(path_, errno);
  return {};
}

}  // namespace conclave::gguf
