// Secrets of API keys: how they are made, what of them is kept, and when a key opens a door.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/catalog/records.hpp"

namespace conclave::catalog {

/// Secrets begin so, that scanners of leaked secrets find them.
inline constexpr std::string_view kSecretPrefix = "sk-conclave-";
/// Bytes of a secret that somebody else made (a file of an operator).
inline constexpr std::size_t kSecretBytesMin = 16;
inline constexpr std::size_t kSecretBytesMax = 256;

/// A new secret: the prefix and 43 letters and digits, 256 random bits of the system.
std::string make_secret();

/// What is stored and looked up. Plain SHA-256: a secret has 256 bits, nobody guesses those.
wire::Sha256 secret_hash(std::string_view secret);

/// The first characters of a secret, that people may see: too few of them to guess the rest.
std::string secret_prefix(std::string_view secret);

/// "key-" and the first 16 hex digits of the sum.
std::string key_id(const wire::Sha256& secret_hash);

/// Ok, or kFailedPrecondition: revoked or expired, with the day.
base::Status usable(const ApiKey& key, std::int64_t now_unix_ms);

/// True if the key may ask the model of this name: it names none, or this one.
bool may_use(const ApiKey& key, std::string_view model);

}  // namespace conclave::catalog
