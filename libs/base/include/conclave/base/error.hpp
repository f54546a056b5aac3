// The one error type of the tree: a code that says what the caller should do, and a sentence.
// It is a value; nothing in the project throws across a library boundary.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::base {

/// Named by the caller's next move, not by where the failure happened. 0 is never a code.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument = 1,     // the caller passed something wrong: fix the request
  kNotFound = 2,            // what was named does not exist
  kFailedPrecondition = 3,  // right request, wrong state: change the state first
  kOverloaded = 4,          // a limit is reached: back off and retry
  kUnavailable = 5,         // this one cannot: try elsewhere, or later
  kDeadlineExceeded = 6,    // stop: nobody waits any more
  kCancelled = 7,           // stop: the caller asked for it
  kCorruptData = 8,         // bytes contradict their format or checksum: do not retry them
  kUnimplemented = 9,       // valid, but this build does not do it
  kInternal = 10,           // a bug of ours: report it
};

inline constexpr int kErrorCodeCount = 10;

/// Stable lower-case name (`corrupt_data`), used in logs, metrics and JSON.
std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;

  /// The same error with `where: ` before its message: callers add what they were doing.
  [[nodiscard]] Error within(std::string_view where) const;

  /// `corrupt_data: the message`.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Error&, const Error&) = default;
};

}  // namespace conclave::base
