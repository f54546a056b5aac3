#include "key_book.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::gateway {

std::string_view bearer_token(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  const bool is_bearer = std::equal(
      kScheme.begin(), kScheme.end(), authorization.begin(),
      [](char want, char have) { return want == std::tolower(static_cast<unsigned char>(have)); });
  if (!is_bearer) return {};
  authorization.remove_prefix(kScheme.size());
  while (authorization.starts_with(' ')) authorization.remove_prefix(1);
  return authorization;
}

wire::Sha256 secret_sum(std::string_view secret) {
  wire::Sha256 sum{};
  unsigned size = 0;
  CONCLAVE_CHECK(EVP_Digest(secret.data(), secret.size(),
                            reinterpret_cast<unsigned char*>(sum.data()), &size, EVP_sha256(),
                            nullptr) == 1 &&
                 size == sum.size());
  return sum;
}

void KeyBook::Shelf::keep(const wire::Sha256& sum, wire::KeyAnswer answer, TimePoint now,
                          std::uint64_t certainty) {
  forget(sum);
  entries_[sum] = {std::move(answer), now, certainty, ++kept_};
  by_age_[kept_] = sum;
  while (entries_.size() > entries_max_) forget(wire::Sha256(by_age_.begin()->second));
}

void KeyBook::Shelf::forget(const wire::Sha256& sum) {
  const auto known = entries_.find(sum);
  if (known == entries_.end()) return;
  by_age_.erase(known->second.number);
  entries_.erase(known);
}

const KeyBook::Entry* KeyBook::Shelf::find(const wire::Sha256& sum) const {
  const auto known = entries_.find(sum);
  return known == entries_.end() ? nullptr : &known->second;
}

void KeyBook::keep(const wire::Sha256& sum, wire::KeyAnswer answer, TimePoint now) {
  const bool is_guess = answer.subject.key_id.empty();
  (is_guess ? keys_ : guesses_).forget(sum);
  (is_guess ? guesses_ : keys_).keep(sum, std::move(answer), now, certainty_);
}

const KeyBook::Entry* KeyBook::entry(const wire::Sha256& sum) const {
  const Entry* known = keys_.find(sum);
  return known != nullptr ? known : guesses_.find(sum);
}

std::optional<wire::KeyAnswer> KeyBook::fresh(const wire::Sha256& sum, TimePoint now,
                                              WallTime wall) const {
  if (is_doubted(sum)) return std::nullopt;
  return find(sum, now, wall, kFresh);
}

std::optional<wire::KeyAnswer> KeyBook::certain(const wire::Sha256& sum, TimePoint now,
                                                WallTime wall) const {
  if (is_doubted(sum)) return std::nullopt;
  return find(sum, now, wall, kUsable);
}

bool KeyBook::is_doubted(const wire::Sha256& sum) const {
  const Entry* known = entry(sum);
  return known == nullptr || known->certainty != certainty_;
}

std::optional<wire::KeyAnswer> KeyBook::find(const wire::Sha256& sum, TimePoint now, WallTime wall,
                                             std::chrono::seconds age) const {
  const Entry* known = entry(sum);
  if (known == nullptr || now - known->said > age) return std::nullopt;
  const std::int64_t expires = known->answer.expires_unix_ms;
  const bool is_over = expires != 0 && wall >= WallTime(std::chrono::milliseconds(expires));
  if (known->answer.valid && is_over) return std::nullopt;
  return known->answer;
}

}  // namespace conclave::gateway
