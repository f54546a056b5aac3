// The number by which a call says which model it means.
#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

namespace conclave::dispatch {

/// The first 8 bytes of the file's SHA-256, from its hex digits; 0 for text that has none.
inline std::uint64_t model_key(std::string_view sha256_hex) {
  std::uint64_t key = 0;
  const std::string_view digits = sha256_hex.substr(0, 16);
  std::from_chars(digits.data(), digits.data() + digits.size(), key, 16);
  return key;
}

}  // namespace conclave::dispatch
