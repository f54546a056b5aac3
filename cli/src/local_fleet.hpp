// The processes of `conclave up`: which programs, with which settings, ended in which order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "conclave/devices/machine.hpp"
#include "supervisor.hpp"

namespace conclave::cli {

struct LocalFleet {
  std::filesystem::path programs;  // the directory of conclave-gateway and the others
  std::filesystem::path state;     // absolute
  std::string keys;                // directory
  std::string model;               // absolute path, or an address
  std::string reference;           // under which the registry will know it
  std::uint32_t workers = 2;       // at least one
  std::uint32_t routers = 1;
  std::string database;                        // of the registries: a path, or a URL of PostgreSQL
  std::optional<ChildSpec> postgres;           // a server for this fleet alone
  std::filesystem::path admin_key;             // file with an administrator's secret; empty: none
  std::vector<std::uint16_t> registry_ports;   // one registry each, at least one
  std::vector<std::uint16_t> scheduler_ports;  // likewise; one leads
  std::string host = "127.0.0.1";              // of the HTTP API
  std::uint16_t port = 8000;                   // likewise
  std::vector<std::uint16_t> more_ports;       // of further gateways, one each
  std::string redis;                           // where gateways count quotas; empty: each by itself
  std::string log_level = "warn";
  std::uint32_t drain_ms = 10'000;
  std::string data_encryption = "curve";
  std::vector<std::string> settings;  // "router.threads=2", see setting_problem
};

/// registry (or registry-1..), scheduler (or scheduler-1..), worker-1.., router-1.., gateway,
/// gateway-2... Requests are ended first: the gateway, then the routers, the workers, and those
/// that plan at last. Workers share processors and three quarters of the memory, as if each were on
/// a machine of its own.
std::vector<ChildSpec> processes_of(const LocalFleet& fleet, const devices::Machine& machine);

/// The directory that its services share for pieces of remote models.
std::filesystem::path artifacts_cache(const LocalFleet& fleet);

/// "tcp://127.0.0.1:7600", separated by commas if there are several
std::string scheduler_addresses(const LocalFleet& fleet);

/// Empty for SECTION.KEY=VALUE where SECTION is of some service; whether it has such a key the
/// service says when it starts. For CLI11's check().
std::string setting_problem(const std::string& setting);

}  // namespace conclave::cli
