// Checks for bugs of ours, on in every build type. Never for input, network or configuration:
// those get an Error.
#pragma once

namespace conclave::base {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace conclave::base

#define CONCLAVE_CHECK(condition) \
  ((condition) ? void() : ::conclave::base::check_failed(#condition, __FILE__, __LINE__))
