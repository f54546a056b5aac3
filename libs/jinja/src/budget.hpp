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

  /// `value` read by an operator, a filter or a function. Lists charge for what they do with them.
  base::Status scan(const Value& value) {
    return value.is_string() ? scan(value.as_string().size()) : base::Status();
  }

  /// A string, list, function or scope with `bytes` of content about to be made.
  base::Status allocate(std::uint64_t bytes) {
    const bool fits = bytes <= memory_bytes_ && memory_bytes_ - bytes >= kBoxBytes;
    if (!fits) return exceeded("the template makes too much data");
    memory_bytes_ -= bytes + kBoxBytes;
    return step(bytes / kBytesPerStep + 1);
  }

 private:
  static constexpr std::size_t kBytesPerStep = 16;
  // What the heap and a shared pointer add to any content.
  static constexpr std::size_t kBoxBytes = 64;

  static tl::unexpected<base::Error> exceeded(const char* message) {
    return base::fail(base::ErrorCode::kOverloaded, message);
  }

  std::uint64_t steps_;
  std::uint64_t memory_bytes_;
};

}  // namespace conclave::jinja
