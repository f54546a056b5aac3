#include "conclave/catalog/access.hpp"

#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "conclave/base/check.hpp"
#include "conclave/catalog/json.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::catalog {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {
// Of the prefix that all have, and of each secret's own: 20 of its 256 bits.
constexpr std::size_t kShownChars = 4;
}  // namespace

std::string make_secret() {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  constexpr std::size_t kChars = 43;  // 62^43 > 2^256
  // Bytes from which each letter comes as often as another: 248 = 4 * 62.
  constexpr unsigned kFair = 248;
  std::string secret(kSecretPrefix);
  while (secret.size() < kSecretPrefix.size() + kChars) {
    std::array<unsigned char, 64> random{};
    CONCLAVE_CHECK(RAND_bytes(random.data(), static_cast<int>(random.size())) == 1);
    for (const unsigned char byte : random) {
      if (byte < kFair && secret.size() < kSecretPrefix.size() + kChars) {
        secret += kAlphabet[byte % kAlphabet.size()];
      }
    }
  }
  return secret;
}

wire::Sha256 secret_hash(std::string_view secret) {
  model::Sha256Hasher hasher;
  hasher.update(std::as_bytes(std::span(secret)));
  return hasher.finish();
}

std::string secret_prefix(std::string_view secret) {
  const std::size_t known = secret.starts_with(kSecretPrefix) ? kSecretPrefix.size() : 0;
  return std::string(secret.substr(0, known + kShownChars));
}

std::string key_id(const wire::Sha256& secret_hash) {
  constexpr std::size_t kHexDigits = 16;
  return "key-" + model::to_hex(secret_hash).substr(0, kHexDigits);
}

Status usable(const ApiKey& key, std::int64_t now_unix_ms) {
  if (key.revoked_unix_ms != 0) {
    return fail(ErrorCode::kFailedPrecondition,
                "the key " + key.id + " was revoked on " + format_day(day_of(key.revoked_unix_ms)));
  }
  if (key.expires_unix_ms != 0 && key.expires_unix_ms <= now_unix_ms) {
    return fail(ErrorCode::kFailedPrecondition,
                "the key " + key.id + " expired on " + format_day(day_of(key.expires_unix_ms)));
  }
  return {};
}

bool may_use(const ApiKey& key, std::string_view model) {
  return key.models.empty() || std::ranges::find(key.models, model) != key.models.end();
}

}  // namespace conclave::catalog
