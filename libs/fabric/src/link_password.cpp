#include "link_password.hpp"

#include <sodium.h>
#include <zmq.h>

#include <array>
#include <cstdint>
#include <optional>

#include "conclave/base/check.hpp"

namespace conclave::fabric {

namespace {

using KeyBytes = std::array<std::uint8_t, crypto_scalarmult_BYTES>;

std::optional<KeyBytes> bytes_of(std::string_view key) {
  KeyBytes bytes{};
  const std::string terminated(key);
  if (key.size() != bytes.size() * 5 / 4 ||
      zmq_z85_decode(bytes.data(), terminated.c_str()) == nullptr) {
    return std::nullopt;
  }
  return bytes;
}

}  // namespace

std::string link_password(const KeyPair& own, std::string_view peer, std::string_view client) {
  const auto secret = bytes_of(own.secret_key);
  const auto peer_key = bytes_of(peer);
  const auto client_key = bytes_of(client);
  KeyBytes shared{};
  if (!secret || !peer_key || !client_key ||
      crypto_scalarmult(shared.data(), secret->data(), peer_key->data()) != 0) {
    return {};
  }
  // Bound to its use and to the direction, so that it answers no other question.
  constexpr std::string_view kUse = "conclave link v1";
  KeyBytes digest{};
  crypto_generichash_state state;
  crypto_generichash_init(&state, shared.data(), shared.size(), digest.size());
  crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(kUse.data()),
                            kUse.size());
  crypto_generichash_update(&state, client_key->data(), client_key->size());
  crypto_generichash_final(&state, digest.data(), digest.size());
  sodium_memzero(shared.data(), shared.size());
  std::array<char, std::tuple_size_v<KeyBytes> * 5 / 4 + 1> text{};
  CONCLAVE_CHECK(zmq_z85_encode(text.data(), digest.data(), digest.size()) != nullptr);
  return text.data();
}

bool same_password(std::string_view a, std::string_view b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace conclave::fabric
