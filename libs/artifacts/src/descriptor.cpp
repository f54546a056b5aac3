#include "descriptor.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

tl::unexpected<base::Error> system_error(const std::filesystem::path& path, int error) {
  return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
              path.string() + ": " + std::generic_category().message(error));
}

Status write_at(int fd, std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error("writing a piece of a model", errno);
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Status copy(std::span<const FileRange> from, int to, std::uint64_t offset,
            model::Sha256Hasher* hasher) {
  std::vector<std::byte> buffer(kCopyBytes);
  for (const FileRange& range : from) {
    for (std::uint64_t done = 0; done < range.size;) {
      const std::size_t wanted = std::min<std::uint64_t>(buffer.size(), range.size - done);
      const ssize_t got =
          ::pread(range.fd, buffer.data(), wanted, static_cast<off_t>(range.offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error("reading a piece of a model", errno);
      if (got == 0) return fail(ErrorCode::kCorruptData, "a piece of a model is cut short");
      const auto bytes = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(got));
      if (hasher != nullptr) hasher->update(bytes);
      if (to >= 0) CONCLAVE_TRY_VOID(write_at(to, offset, bytes));
      offset += bytes.size();
      done += bytes.size();
    }
  }
  return {};
}

}  // namespace conclave::artifacts
