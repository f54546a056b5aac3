#include "conclave/app/node.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "conclave/base/text.hpp"

namespace conclave::app {
namespace {

// A DNS label: the name is used in host names, metrics and file names.
constexpr std::size_t kNameBytesMax = 63;

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

// The first label of the host's name in lower case; what a name may not have becomes '-'.
std::string host_label() {
  std::array<char, 256> buffer{};  // HOST_NAME_MAX is 64
  if (::gethostname(buffer.data(), buffer.size() - 1) != 0) return "";
  std::string host(buffer.data());
  host.resize(std::min(host.find('.'), host.size()));
  for (char& c : host) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!is_name_char(c)) c = '-';
  }
  return host;
}

}  // namespace

base::Result<std::string> node_name(std::string_view name, std::string_view service) {
  if (name.empty()) {
    // Several processes share a host, and in containers every process is number 1: both are needed.
    const std::string process = std::to_string(::getpid());
    std::string host = host_label();
    const std::size_t others = service.size() + process.size() + 2;
    host.resize(std::min(host.size(), others < kNameBytesMax ? kNameBytesMax - others : 0));
    return std::string(service) + "-" + (host.empty() ? "" : host + "-") + process;
  }
  if (name.size() > kNameBytesMax || !std::all_of(name.begin(), name.end(), is_name_char)) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      "node.name " + base::shown(name) + " is not [a-z0-9.-]{1,63}");
  }
  return std::string(name);
}

base::Status check_zone(std::string_view zone) {
  const auto is_zone_char = [](char c) {
    return is_name_char(c) || (c >= 'A' && c <= 'Z') || c == '_';
  };
  if (zone.size() <= kNameBytesMax && std::all_of(zone.begin(), zone.end(), is_zone_char)) {
    return {};
  }
  return base::fail(base::ErrorCode::kInvalidArgument,
                    "node.zone " + base::shown(zone) + " is not [A-Za-z0-9._-]{1,63}");
}

}  // namespace conclave::app
