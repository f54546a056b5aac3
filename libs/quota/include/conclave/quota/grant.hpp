// A request's place among what its tenant may use, given back when it dies.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "conclave/quota/store.hpp"

namespace conclave::quota {

/// One thread at a time.
class Grant {
 public:
  /// What `store` let in with `counts`.
  Grant(std::shared_ptr<Store> store, const Ask& ask, const Counts& counts)
      : store_(std::move(store)),
        settlement_{ask.tenant,   ask.lease, counts.window_ms, counts.day,
                    counts.month, 0,         counts.alone,     0},
        asked_(ask.tokens) {}
  Grant(Grant&&) noexcept = default;
  Grant& operator=(Grant&&) = delete;
  ~Grant() {
    if (!store_) return;  // moved from
    settlement_.tokens = static_cast<std::int64_t>(std::min(used_, kTokensMax)) -
                         static_cast<std::int64_t>(std::min(asked_, kTokensMax));
    settlement_.used = used_;
    store_->settle(settlement_);
  }

  /// Tokens of the prompt and the answer, as they were in the end; 0 until it is said.
  void used(std::uint64_t tokens) { used_ = tokens; }

 private:
  std::shared_ptr<Store> store_;
  Settlement settlement_;
  std::uint64_t asked_;
  std::uint64_t used_ = 0;
};

}  // namespace conclave::quota
