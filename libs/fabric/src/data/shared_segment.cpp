#include "shared_segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "conclave/base/aligned.hpp"
#include "conclave/base/check.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
/// Pages are reserved in steps of this: a system call for every 256 pages.
constexpr std::size_t kReserveStep = std::size_t{1} << 20;

std::size_t rounded_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

tl::unexpected<base::Error> system_failure(const char* what) {
  return fail(ErrorCode::kUnavailable,
              std::string(what) + ": " + std::generic_category().message(errno));
}

std::byte* map(int descriptor, std::size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

}  // namespace

base::Result<SharedSegment> SharedSegment::create(std::size_t bytes) {
  Descriptor descriptor(::memfd_create("conclave-calls", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor.ok()) return system_failure("memfd_create");
  if (::ftruncate(descriptor.get(), static_cast<off_t>(bytes)) != 0) {
    return system_failure("ftruncate");
  }
  if (::fcntl(descriptor.get(), F_ADD_SEALS, kSeals) != 0) return system_failure("F_ADD_SEALS");
  std::byte* data = map(descriptor.get(), bytes);
  if (data == nullptr) return system_failure("mmap");
  return SharedSegment(std::move(descriptor), data, bytes);
}

base::Result<SharedSegment> SharedSegment::open(Descriptor descriptor, std::size_t bytes_max) {
  const int seals = ::fcntl(descriptor.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return fail(ErrorCode::kInvalidArgument, "a segment that its maker can make shorter");
  }
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) return system_failure("fstat");
  const auto bytes = static_cast<std::size_t>(std::max<off_t>(status.st_size, 0));
  if (bytes == 0 || bytes > bytes_max) {
    return fail(ErrorCode::kInvalidArgument, "a segment of " + std::to_string(bytes) +
                                                 " bytes; at most " + std::to_string(bytes_max));
  }
  std::byte* data = map(descriptor.get(), bytes);
  if (data == nullptr) return system_failure("mmap");
  return SharedSegment(std::move(descriptor), data, bytes);
}

SharedSegment::~SharedSegment() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : descriptor_(std::move(other.descriptor_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(other.size_),
      reserved_(other.reserved_) {}

base::Status SharedSegment::reserve(std::size_t end) {
  CONCLAVE_CHECK(end <= size_);
  if (end <= reserved_) return {};
  end = std::min(rounded_up(end, kReserveStep), size_);
  int result = 0;
  do {
    result = ::fallocate(descriptor_.get(), 0, static_cast<off_t>(reserved_),
                         static_cast<off_t>(end - reserved_));
  } while (result != 0 && errno == EINTR);
  if (result != 0) return system_failure("fallocate");
  reserved_ = end;
  return {};
}

std::optional<std::size_t> BlockList::take(std::size_t bytes) {
  if (bytes > bytes_) return std::nullopt;
  bytes = rounded_up(bytes, base::kCacheLine);
  std::size_t first = 0;
  auto place = taken_.begin();
  for (; place != taken_.end() && place->first - first < bytes; ++place) first = place->end;
  if (place == taken_.end() && bytes > bytes_ - first) return std::nullopt;
  taken_.insert(place, {first, first + bytes});
  return first;
}

void BlockList::give_back(std::size_t offset) {
  const auto block = std::find_if(taken_.begin(), taken_.end(),
                                  [offset](const Block& b) { return b.first == offset; });
  CONCLAVE_CHECK(block != taken_.end());
  taken_.erase(block);
}

}  // namespace conclave::fabric
