// What the gateway knows of the fleet, for those who only look: readiness and the list of models.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::gateway {

struct ServedModel {
  std::string name;
  std::string fingerprint;   // of its bytes, `fp_` and 12 hex digits; empty: not known
  std::int64_t created = 0;  // when this gateway first heard of it, seconds since the epoch

  friend bool operator==(const ServedModel&, const ServedModel&) = default;
};

/// Any thread.
class GatewayStatus {
 public:
  void set(std::optional<ServedModel> model, base::Status ready) {
    const std::lock_guard lock(mutex_);
    model_ = std::move(model);
    ready_ = std::move(ready);
  }
  [[nodiscard]] std::optional<ServedModel> model() const {
    const std::lock_guard lock(mutex_);
    return model_;
  }
  /// Ok if a request for the model would be taken; else kUnavailable with the reason.
  [[nodiscard]] base::Status ready() const {
    const std::lock_guard lock(mutex_);
    return ready_;
  }

 private:
  mutable std::mutex mutex_;  // guards both
  std::optional<ServedModel> model_;
  base::Status ready_ =
      base::fail(base::ErrorCode::kUnavailable, "the scheduler was not heard yet");
};

}  // namespace conclave::gateway
