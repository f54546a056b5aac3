#include "credentials.hpp"

#include <cstdlib>
#include <fstream>
#include <string_view>

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string_view trimmed(std::string_view text) {
  const std::size_t from = text.find_first_not_of(" \t\r");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r") - from + 1);
}

}  // namespace

Result<Credentials> read_credentials(const std::string& path) {
  std::ifstream file(path);
  Credentials found;
  bool is_default = true;  // lines before any section are of the only one
  std::string text;
  for (std::size_t lines = 0; lines < kCredentialLinesMax && std::getline(file, text); ++lines) {
    const std::string_view line = trimmed(text);
    if (line.starts_with('[')) is_default = line == "[default]";
    const std::size_t equals = line.find('=');
    if (!is_default || equals == std::string_view::npos || line.starts_with('#')) continue;
    const std::string_view name = trimmed(line.substr(0, equals));
    const std::string_view value = trimmed(line.substr(equals + 1));
    if (name == "aws_access_key_id") found.key_id = value;
    if (name == "aws_secret_access_key") found.secret = value;
    if (name == "aws_session_token") found.token = value;
  }
  if (found.key_id.empty() || found.secret.empty()) {
    return fail(ErrorCode::kFailedPrecondition,
                "artifacts.s3-credentials-file: " + path +
                    " cannot be read, or has no aws_access_key_id and aws_secret_access_key");
  }
  return found;
}

Result<Credentials> find_credentials(const Settings& settings) {
  Credentials given{environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
                    environment("AWS_SESSION_TOKEN")};
  if (!given.key_id.empty() && !given.secret.empty()) return given;
  if (settings.s3_credentials_file.empty()) return Credentials{};
  return read_credentials(settings.s3_credentials_file);
}

}  // namespace conclave::artifacts
