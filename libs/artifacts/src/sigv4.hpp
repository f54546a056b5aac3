// AWS Signature Version 4 for GET requests without a body, as S3 wants them.
// Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::artifacts {

struct Credentials {
  std::string key_id;  // empty: requests go unsigned
  std::string secret;
  std::string token;  // of a session; may be empty
};

struct SignedGet {
  std::string host;   // with its port, as the Host field will have it
  std::string path;   // encoded, as the request line will have it
  std::string range;  // value of the Range field; empty: there is none
  std::string region;
  std::chrono::system_clock::time_point now;
};

/// The fields to send beside Host and Range ("name: value"): date, sum of the empty body, the
/// session's token and Authorization.
std::vector<std::string> sign(const SignedGet& request, const Credentials& credentials);

/// Everything but unreserved characters and slashes as %XX: a key as a path has it.
std::string encode_path(std::string_view key);

}  // namespace conclave::artifacts
