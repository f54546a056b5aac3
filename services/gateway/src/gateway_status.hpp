// What the gateway knows of the fleet, for those who only look: readiness and the list of models.
#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::gateway {

/// A name that clients may ask.
struct ServedModel {
  std::string name;
  std::string fingerprint;   // of its bytes, `fp_` and 12 hex digits; empty: not known
  std::int64_t created = 0;  // when this gateway first heard of it, seconds since the epoch

  friend bool operator==(const ServedModel&, const ServedModel&) = default;
};

/// Any thread.
class GatewayStatus {
 public:
  void set(std::vector<ServedModel> models, base::Status ready) {
    const std::lock_guard lock(mutex_);
    models_ = std::move(models);
    ready_ = std::move(ready);
  }
  [[nodiscard]] std::vector<ServedModel> models() const {
    const std::lock_guard lock(mutex_);
    return models_;
  }
  /// Ok if a request for some model would be taken; else kUnavailable with the reason.
  [[nodiscard]] base::Status ready() const {
    const std::lock_guard lock(mutex_);
    return ready_;
  }

 private:
  mutable std::mutex mutex_;  // guards both
  std::vector<ServedModel> models_;
  base::Status ready_ =
      base::fail(base::ErrorCode::kUnavailable, "the scheduler was not heard yet");
};

}  // namespace conclave::gateway
