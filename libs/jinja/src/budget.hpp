// What one rendering may still consume.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conclave/base/result.hpp"
#include "conclave/jinja/template.hpp"

namespace conclave::jinja {

class Budget {
 public:
  explicit Budget(const RenderOptions& options)
      : steps_(options.steps_max), memory_bytes_(options.memory_bytes_max) {}

  /// One node evaluated, one comparison made.
  base::Status step(std::uint64_t count = 1) {
    if (count > steps_) return exceeded("the template takes too many steps");
    steps_ -= count;
    return {};
  }

  /// `bytes` read by a filter.
  base::Status scan(std::size_t bytes) { return step(bytes / kBytesPerStep + 1); }

  /// A string or list of `bytes` about to be made.
  base::Status allocate(std::uint64_t bytes) {
    if (bytes > memory_bytes_) return exceeded("the template makes too much data");
    memory_bytes_ -= bytes;
    return step(bytes / kBytesPerStep + 1);
  }

 private:
  static constexpr std::size_t kBytesPerStep = 16;

  static tl::unexpected<base::Error> exceeded(const char* message) {
    return base::fail(base::ErrorCode::kOverloaded, message);
  }

  std::uint64_t steps_;
  std::uint64_t memory_bytes_;
};

}  // namespace conclave::jinja
