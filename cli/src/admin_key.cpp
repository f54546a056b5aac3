#include "admin_key.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "conclave/catalog/access.hpp"
#include "descriptor.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;

namespace {

// Of a secret with the end of its line; ours have 55, an operator's own 256 at most.
constexpr std::size_t kFileBytesMax = 300;

std::string because(int number) { return std::generic_category().message(number); }

}  // namespace

base::Result<std::string> read_admin_key(const std::filesystem::path& state) {
  const std::filesystem::path path = state / kAdminKeyFile;
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
                path.string() + ": " + because(errno));
  }
  std::array<char, kFileBytesMax + 1> text{};
  const ssize_t got = ::read(file.get(), text.data(), text.size());
  if (got < 0) return fail(ErrorCode::kUnavailable, path.string() + ": " + because(errno));
  std::string secret(text.data(), static_cast<std::size_t>(got));
  while (secret.ends_with('\n') || secret.ends_with('\r')) secret.pop_back();
  // It goes into a header of HTTP.
  const bool is_plain = std::ranges::all_of(secret, [](char c) { return c > ' ' && c < '\x7f'; });
  if (secret.empty() || secret.size() + 1 >= kFileBytesMax || !is_plain) {
    return fail(ErrorCode::kCorruptData, path.string() + " holds no secret");
  }
  return secret;
}

base::Result<std::filesystem::path> ensure_admin_key(const std::filesystem::path& state) {
  const std::filesystem::path path = state / kAdminKeyFile;
  std::error_code error;
  if (std::filesystem::exists(path, error)) return path;
  std::filesystem::create_directories(state, error);
  // Whole or not at all: a reader must never see half a secret.
  const std::string fresh = path.string() + "." + std::to_string(::getpid());
  ::unlink(fresh.c_str());  // of a process of our number that did not get further
  const std::string secret = catalog::make_secret() + "\n";
  {
    const Descriptor file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.is_open() ||
        ::write(file.get(), secret.data(), secret.size()) != static_cast<ssize_t>(secret.size())) {
      return fail(ErrorCode::kUnavailable, fresh + ": " + because(errno));
    }
  }
  // Of two that make one at the same time the first wins.
  if (::link(fresh.c_str(), path.c_str()) != 0 && errno != EEXIST) {
    return fail(ErrorCode::kUnavailable, path.string() + ": " + because(errno));
  }
  ::unlink(fresh.c_str());
  return path;
}

}  // namespace conclave::cli
