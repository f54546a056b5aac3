// How the services reach models that are not on their disk; one section of settings for all.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace conclave::artifacts {

/// Section `artifacts`. Keys of S3 are taken from the environment (AWS_ACCESS_KEY_ID,
/// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), else from `s3-credentials-file`; without any,
/// requests are not signed.
struct Settings {
  std::string cache;
  std::uint64_t cache_bytes_max = std::uint64_t{64} << 30;
  std::uint32_t connections = 4;
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds stall_timeout{30'000};
  std::uint32_t retries = 5;
  std::uint32_t redirects_max = 5;
  std::string proxy;
  std::string ca_file;
  std::string s3_endpoint;
  std::string s3_region = "us-east-1";
  std::string s3_credentials_file;

  template <class Visitor>
  void visit(Visitor&& v) {
    using std::chrono::milliseconds;
    v("cache", cache,
      "Directory on a local disk for pieces of models from http(s):// and s3:// (default: "
      "conclave-artifacts in the directory for temporary files)");
    v("cache-bytes-max", cache_bytes_max, std::uint64_t{0}, std::uint64_t{1} << 50,
      "Most bytes that the cache keeps; those least used go first (0: it keeps nothing)");
    v("connections", connections, 1u, 64u, "Ranges that are fetched at once");
    v("connect-timeout-ms", connect_timeout, milliseconds{1}, milliseconds{600'000},
      "Longest wait for a connection");
    v("stall-timeout-ms", stall_timeout, milliseconds{1'000}, milliseconds{3'600'000},
      "A transfer that is slower than 1 KiB/s for so long is given up and begun again");
    v("retries", retries, 0u, 100u,
      "How often a transfer that breaks is begun again, where it broke, without getting further");
    v("redirects-max", redirects_max, 0u, 20u, "Most redirects that are followed");
    v("proxy", proxy,
      "Proxy for http(s):// and s3:// (default: none; the environment's is not read)");
    v("ca-file", ca_file, "Certificates of authorities to trust, in PEM (default: the system's)");
    v("s3-endpoint", s3_endpoint,
      "http(s)://HOST[:PORT] of a server that speaks S3 (default: that of AWS)");
    v("s3-region", s3_region, "Region of the buckets");
    v("s3-credentials-file", s3_credentials_file,
      "File with aws_access_key_id and aws_secret_access_key, as ~/.aws/credentials has them");
  }
};

}  // namespace conclave::artifacts
