#include "admission.hpp"

#include <string>

#include "conclave/base/check.hpp"

namespace conclave::router {

using base::ErrorCode;
using base::fail;

base::Status Admission::take(std::size_t sequences) {
  const std::lock_guard lock(mutex_);
  if (closed_) return fail(ErrorCode::kUnavailable, "this router is draining");
  if (sequences > sequences_max_ - sequences_) {
    return fail(ErrorCode::kOverloaded, "this router has " + std::to_string(sequences_) +
                                            " sequences of at most " +
                                            std::to_string(sequences_max_));
  }
  sequences_ += sequences;
  return {};
}

void Admission::give_back(std::size_t sequences) {
  const std::lock_guard lock(mutex_);
  CONCLAVE_CHECK(sequences <= sequences_);
  sequences_ -= sequences;
  if (sequences_ == 0) emptied_.notify_all();
}

void Admission::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool Admission::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

bool Admission::wait_until_empty(std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock(mutex_);
  return emptied_.wait_until(lock, deadline, [this] { return sequences_ == 0; });
}

}  // namespace conclave::router
