// libFuzzer entry: any bytes make an envelope that can be sent on unchanged, or a printable error.
// Seed: fuzz/corpus/envelope, kept by golden_test.cpp.
#include <cstddef>
#include <cstdint>
#include <span>

#include "conclave/base/check.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/wire/message.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace conclave;  // NOLINT: a program of its own
  const auto decoded = wire::decode_envelope(std::as_bytes(std::span(data, size)));
  if (!decoded) {
    CONCLAVE_CHECK(!decoded.error().message.empty());
    CONCLAVE_CHECK(base::utf8::valid(decoded.error().message));
    return 0;
  }
  const auto again = wire::decode_envelope(wire::encode(*decoded));
  CONCLAVE_CHECK(again.has_value());
  CONCLAVE_CHECK(*again == *decoded);
  return 0;
}
