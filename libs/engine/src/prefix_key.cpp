#include "conclave/engine/prefix_key.hpp"

#include <sodium.h>

#include <bit>
#include <cstring>

#include "conclave/base/check.hpp"

namespace conclave::engine {

namespace {

static_assert(std::endian::native == std::endian::little);  // keys are the same everywhere

PrefixKey digest(const void* bytes, std::size_t size) {
  // Chooses the fastest code for this processor; without it the plain one runs.
  static const bool ready = sodium_init() >= 0;
  PrefixKey key;
  CONCLAVE_CHECK(ready && crypto_generichash(reinterpret_cast<unsigned char*>(&key), sizeof key,
                                             static_cast<const unsigned char*>(bytes), size,
                                             nullptr, 0) == 0);
  return key;
}

}  // namespace

PrefixKey prefix_root(std::string_view salt) { return digest(salt.data(), salt.size()); }

PrefixKey prefix_key(const PrefixKey& parent, BlockTokens tokens) {
  unsigned char bytes[sizeof parent + tokens.size_bytes()];
  std::memcpy(bytes, &parent, sizeof parent);
  std::memcpy(bytes + sizeof parent, tokens.data(), tokens.size_bytes());
  return digest(bytes, sizeof bytes);
}

}  // namespace conclave::engine
