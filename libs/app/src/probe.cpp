#include "probe.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <string>
#include <utility>

#include "conclave/base/text.hpp"

namespace conclave::app {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

// Of the reason that /ready gives: a line for people.
constexpr std::size_t kReasonBytesMax = 512;

// An address to listen on is not always one to connect to.
std::string reachable_host(const std::string& host) {
  if (host == "0.0.0.0") return "127.0.0.1";
  if (host == "::") return "::1";
  return host;
}

}  // namespace

std::optional<Probe> probe_of(std::string_view word) {
  if (word == "health") return Probe::kHealth;
  if (word == "ready") return Probe::kReady;
  return std::nullopt;
}

Status run_probe(Probe probe, const AdminSettings& settings) {
  if (settings.port == 0) {
    return fail(ErrorCode::kInvalidArgument, "admin.port is 0, a free one: name it to ask it");
  }
  const std::string host = reachable_host(settings.host);
  const std::string where = host + ":" + std::to_string(settings.port);
  // The stream speaks HTTP/1.0: one request, one answer, and the end of the connection.
  boost::asio::ip::tcp::iostream stream;
  stream.expires_after(std::chrono::seconds(kProbeSeconds));
  stream.connect(host, std::to_string(settings.port));
  stream << "GET " << (probe == Probe::kHealth ? "/health" : "/ready")
         << " HTTP/1.0\r\nHost: " << where << "\r\n\r\n"
         << std::flush;
  std::string version;
  int status = 0;
  stream >> version >> status;
  if (!stream || !version.starts_with("HTTP/")) {
    return fail(ErrorCode::kUnavailable, "nobody answers at " + where);
  }
  if (status == 200) return {};
  std::string line;
  while (std::getline(stream, line) && line != "\r") {
  }
  std::string reason(kReasonBytesMax, '\0');
  stream.read(reason.data(), static_cast<std::streamsize>(reason.size()));
  reason.resize(static_cast<std::size_t>(stream.gcount()));
  return fail(ErrorCode::kUnavailable, base::printable(reason));
}

}  // namespace conclave::app
