#include "conclave/testkit/service_host.hpp"

#include <utility>

namespace conclave::testkit {

namespace {

// A wall clock that nobody sets: some day in 2027, and on from there.
std::chrono::system_clock::time_point date() {
  const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::system_clock::time_point(
      std::chrono::seconds(1'800'000'000) +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(since_boot));
}

}  // namespace

ServiceHost::ServiceHost(std::string node_name)
    : context_{telemetry::Logger::create(
                   node_name, {telemetry::Level::kDebug, telemetry::LogFormat::kJson},
                   [this](std::string_view line) { lines_.add(std::string(line)); },
                   [] { return std::chrono::system_clock::time_point(); }),
               metrics_,
               std::move(node_name),
               "0.0.0",
               "127.0.0.1:9464",
               std::chrono::steady_clock::now,
               date,
               [this](base::Error error) { failures_.add(std::move(error)); },
               [] { return false; },
               {}} {}

std::optional<std::string> ServiceHost::wait_log(const std::string& event) {
  const std::string part = "\"event\":\"" + event + "\"";
  return lines_.wait([&](const std::string& line) { return line.find(part) != std::string::npos; });
}

}  // namespace conclave::testkit
