// TCP ports for services that are about to start on this machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// `count` different ports of 127.0.0.1 on which nobody listens now. They are outside the range
/// from which the system gives ports to outgoing connections: a service that is away for a moment
/// must find its port free when it comes back, and clients that try to reach it meanwhile would end
/// up connected to themselves. kUnavailable: there are not so many.
base::Result<std::vector<std::uint16_t>> free_ports(std::size_t count);

/// Empty if `host` is an IPv4 or IPv6 address; a name is none. For CLI11's check().
std::string address_problem(const std::string& host);

/// Ok if a server could listen there now. kInvalidArgument: `host` is no address; kUnavailable: the
/// port is taken, or may not be used.
base::Status check_port(const std::string& host, std::uint16_t port);

/// By which this machine reaches a server that listens on `host`: an address in a URL's form, of
/// loopback if `host` means every interface.
std::string url_host(const std::string& host);

}  // namespace conclave::cli
