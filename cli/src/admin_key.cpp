#include "admin_key.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

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

}  // namespace conclave::cli
