#include <mutex>
#include <utility>

#include "conclave/quota/store.hpp"
#include "quota_book.hpp"

namespace conclave::quota {
namespace {

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(WallClockMs clock) : clock_(std::move(clock)) {}

  void take(const Ask& ask, Then then) override { then(counted(ask)); }
  void settle(const Settlement& settlement) override {
    const std::lock_guard lock(mutex_);
    book_.settle(settlement);
  }

 private:
  Counts counted(const Ask& ask) {
    const std::lock_guard lock(mutex_);
    return book_.take(ask, clock_());
  }

  const WallClockMs clock_;
  std::mutex mutex_;  // guards book_
  QuotaBook book_;
};

}  // namespace

std::shared_ptr<Store> memory_store(WallClockMs clock) {
  return std::make_shared<MemoryStore>(std::move(clock));
}

}  // namespace conclave::quota
