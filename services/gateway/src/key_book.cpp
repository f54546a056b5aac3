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

void KeyBook::keep(const wire::Sha256& sum, wire::KeyAnswer answer, TimePoint now) {
  if (const auto known = keys_.find(sum); known != keys_.end()) by_age_.erase(known->second.said);
  while (by_age_.contains(now)) now += TimePoint::duration(1);  // a key of its own for each
  keys_[sum] = {std::move(answer), now};
  by_age_[now] = sum;
  while (keys_.size() > kKeysMax) {
    keys_.erase(by_age_.begin()->second);
    by_age_.erase(by_age_.begin());
  }
}

std::optional<wire::KeyAnswer> KeyBook::find(const wire::Sha256& sum, TimePoint now,
                                             std::chrono::seconds age) const {
  const auto known = keys_.find(sum);
  if (known == keys_.end() || now - known->second.said > age) return std::nullopt;
  return known->second.answer;
}

}  // namespace conclave::gateway
