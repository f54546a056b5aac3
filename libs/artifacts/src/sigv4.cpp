#include "sigv4.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <ctime>
#include <span>

#include "conclave/base/check.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::artifacts {
namespace {

constexpr std::string_view kEmptySum =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

model::Sha256 hmac(std::span<const std::uint8_t> key, std::string_view text) {
  model::Sha256 sum{};
  unsigned size = 0;
  CONCLAVE_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                      reinterpret_cast<const unsigned char*>(text.data()), text.size(), sum.data(),
                      &size) != nullptr);
  return sum;
}

std::string sum_of(std::string_view text) {
  model::Sha256Hasher hasher;
  hasher.update(std::as_bytes(std::span(text)));
  return model::to_hex(hasher.finish());
}

// "20130524T000000Z"
std::string date_of(std::chrono::system_clock::time_point now) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &utc);
  return text.data();
}

struct Field {
  std::string name;  // lower case
  std::string value;
};

}  // namespace

std::vector<std::string> sign(const SignedGet& request, const Credentials& credentials) {
  const std::string date = date_of(request.now);
  const std::string day = date.substr(0, 8);
  // By rising name, as they are signed.
  std::vector<Field> fields{{"host", request.host}};
  if (!request.range.empty()) fields.push_back({"range", request.range});
  fields.push_back({"x-amz-content-sha256", std::string(kEmptySum)});
  fields.push_back({"x-amz-date", date});
  if (!credentials.token.empty()) fields.push_back({"x-amz-security-token", credentials.token});

  std::string canonical = "GET\n" + request.path + "\n\n";
  std::string names;
  for (const Field& field : fields) {
    canonical += field.name + ":" + field.value + "\n";
    names += (names.empty() ? "" : ";") + field.name;
  }
  canonical += "\n" + names + "\n" + std::string(kEmptySum);

  const std::string scope = day + "/" + request.region + "/s3/aws4_request";
  const std::string to_sign = "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + sum_of(canonical);
  const std::string first = "AWS4" + credentials.secret;
  model::Sha256 key =
      hmac(std::span(reinterpret_cast<const std::uint8_t*>(first.data()), first.size()), day);
  for (const std::string_view part : {std::string_view(request.region), std::string_view("s3"),
                                      std::string_view("aws4_request")}) {
    key = hmac(key, part);
  }

  std::vector<std::string> lines;
  for (const Field& field : fields) {
    if (field.name.starts_with("x-amz-")) lines.push_back(field.name + ": " + field.value);
  }
  lines.push_back("Authorization: AWS4-HMAC-SHA256 Credential=" + credentials.key_id + "/" + scope +
                  ",SignedHeaders=" + names + ",Signature=" + model::to_hex(hmac(key, to_sign)));
  return lines;
}

std::string encode_path(std::string_view key) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  static constexpr std::string_view kPlain = "-_.~/";
  std::string path;
  for (const char c : key) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || kPlain.find(c) != std::string_view::npos;
    if (is_plain) {
      path += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    path += '%';
    path += kDigits[byte >> 4];
    path += kDigits[byte & 15];
  }
  return path;
}

}  // namespace conclave::artifacts
