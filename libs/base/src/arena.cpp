#include "conclave/base/arena.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "conclave/base/aligned.hpp"

namespace conclave::base {
namespace {

// Runs beyond what was expected: many blocks in each, and little address space at stake.
constexpr std::size_t kFurtherRun = 4 * kHugePage;

std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

// A mapping of its own. It starts on a huge page, but its length is that of its blocks: the kernel
// takes huge pages only where whole ones fit, so the end of a run, and all of a small one, is made
// of small pages.
class ArenaBlock::Run {
 public:
  static Result<std::shared_ptr<Run>> map(std::size_t bytes) {
    const std::size_t size = round_up(bytes, page_bytes());
    const std::size_t spare = size < kHugePage ? 0 : kHugePage;
    void* data = ::mmap(nullptr, size + spare, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      return fail(ErrorCode::kOverloaded,
                  "the system has no room for " + std::to_string(size) + " bytes");
    }
    auto* begin = static_cast<std::byte*>(data);
    if (spare == 0) return std::make_shared<Run>(begin, size);
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    const std::size_t before = round_up(address, kHugePage) - address;
    if (before != 0) ::munmap(begin, before);
    if (before != spare) ::munmap(begin + before + size, spare - before);
    ::madvise(begin + before, size, MADV_HUGEPAGE);  // without them it is slower, that is all
    return std::make_shared<Run>(begin + before, size);
  }

  Run(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  ~Run() { ::munmap(data_, size_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::byte* data_;
  std::size_t size_;
};

ArenaBlock::ArenaBlock(std::shared_ptr<Run> run, std::byte* data, std::size_t size)
    : run_(std::move(run)), data_(data), size_(size) {}

ArenaBlock::ArenaBlock(ArenaBlock&& other) noexcept
    : run_(std::move(other.run_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

ArenaBlock& ArenaBlock::operator=(ArenaBlock&& other) noexcept {
  std::swap(run_, other.run_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

// Pages that it shares with a neighbour stay until the run goes.
ArenaBlock::~ArenaBlock() {
  if (run_ == nullptr || run_.use_count() == 1) return;
  const auto begin = round_up(reinterpret_cast<std::uintptr_t>(data_), page_bytes());
  const auto end = (reinterpret_cast<std::uintptr_t>(data_) + size_) / page_bytes() * page_bytes();
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::size_t Arena::block_bytes(std::size_t bytes) { return round_up(bytes, kCacheLine); }

Result<ArenaBlock> Arena::allocate(std::size_t bytes) {
  const std::size_t size = block_bytes(bytes);
  const std::lock_guard lock(mutex_);
  if (run_ == nullptr || run_->size() - used_ < size) {
    const std::size_t wanted = run_ == nullptr ? expected_bytes_ : kFurtherRun;
    CONCLAVE_TRY(run_, ArenaBlock::Run::map(std::max({wanted, size, kCacheLine})));
    used_ = 0;
  }
  std::byte* data = run_->data() + used_;
  used_ += size;
  return ArenaBlock(run_, data, bytes);
}

}  // namespace conclave::base
