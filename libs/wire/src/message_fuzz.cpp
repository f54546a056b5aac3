// libFuzzer entry: the first two bytes are the type, little-endian, the rest is the body,
// unaligned. Any bytes make a message that can be sent on unchanged, or a printable error. Seeds:
// fuzz/corpus/message, kept by golden_test.cpp.
#include <cstddef>
#include <cstdint>
#include <span>

#include "conclave/base/check.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/wire/message.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace conclave;  // NOLINT: a program of its own
  if (size < 2) return 0;
  const auto type = static_cast<std::uint16_t>(data[0] | data[1] << 8);
  const auto decoded = wire::decode(type, std::as_bytes(std::span(data, size)).subspan(2));
  if (!decoded) {
    CONCLAVE_CHECK(!decoded.error().message.empty());
    CONCLAVE_CHECK(base::utf8::valid(decoded.error().message));
    return 0;
  }
  // Compared as bytes: a NaN is not equal to itself.
  const auto encoded = wire::try_encode(*decoded);
  CONCLAVE_CHECK(encoded.has_value());
  const auto again = wire::decode(type, *encoded);
  CONCLAVE_CHECK(again.has_value());
  CONCLAVE_CHECK(wire::encode(*again) == *encoded);
  return 0;
}
