#include "usage_spool.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

namespace conclave::gateway {

namespace {

// More gateways than this on one machine would be limited by it, not by their spools.
constexpr int kSpoolsMax = 64;

}  // namespace

// A file system without locks. Where the first file has one, that is another gateway's.
base::Result<UsageSpool> UsageSpool::unlocked(const std::filesystem::path& file,
                                              const std::filesystem::path& tried) {
  if (tried == file) return UsageSpool(file, -1);
  return base::fail(base::ErrorCode::kFailedPrecondition,
                    "gateway.usage-spool: " + file.string() +
                        " is another gateway's, and there can be no lock beside " + tried.string());
}

base::Result<UsageSpool> UsageSpool::claim(const std::filesystem::path& file) {
  if (file.empty()) return UsageSpool();
  for (int number = 1; number <= kSpoolsMax; ++number) {
    std::filesystem::path tried = file;
    if (number > 1) tried += "-" + std::to_string(number);
    const std::string lock_file = tried.string() + ".lock";
    const int lock = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) return unlocked(file, tried);
    if (::flock(lock, LOCK_EX | LOCK_NB) == 0) return UsageSpool(std::move(tried), lock);
    const bool is_held = errno == EWOULDBLOCK;
    ::close(lock);
    if (!is_held) return unlocked(file, tried);
  }
  return base::fail(base::ErrorCode::kFailedPrecondition,
                    "gateway.usage-spool: " + file.string() +
                        " and those beside it are in use by " + std::to_string(kSpoolsMax) +
                        " other gateways");
}

UsageSpool::UsageSpool(UsageSpool&& other) noexcept
    : file_(std::move(other.file_)), lock_(std::exchange(other.lock_, -1)) {}

UsageSpool& UsageSpool::operator=(UsageSpool&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(lock_, other.lock_);
  return *this;
}

UsageSpool::~UsageSpool() {
  if (lock_ >= 0) ::close(lock_);
}

}  // namespace conclave::gateway
