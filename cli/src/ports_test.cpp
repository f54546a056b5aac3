#include "ports.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "conclave/http/server.hpp"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

std::unique_ptr<http::Server> server_on(std::uint16_t port) {
  auto server = http::Server::start({.port = port}, [](auto&&...) {});
  return server ? *std::move(server) : nullptr;
}

TEST(PortsTest, FreePortsDifferAndCanBeListenedOn) {
  const auto ports = free_ports(3);
  ASSERT_TRUE(ports) << ports.error().message;
  EXPECT_EQ(std::set<std::uint16_t>(ports->begin(), ports->end()).size(), 3U);
  for (const std::uint16_t port : *ports) EXPECT_NE(server_on(port), nullptr) << port;
}

TEST(PortsTest, FreePortsAreNotThoseOfOutgoingConnections) {
  unsigned low = 0;
  unsigned high = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> low >> high;
  if (low <= 10'240 && high >= 65'535) GTEST_SKIP() << "the system takes all ports for them";
  const auto ports = free_ports(50);
  ASSERT_TRUE(ports);
  for (const std::uint16_t port : *ports) EXPECT_TRUE(port < low || port > high) << port;
}

TEST(PortsTest, MorePortsThanThereAreIsAnError) {
  const auto ports = free_ports(65'536);
  ASSERT_FALSE(ports);
  EXPECT_EQ(ports.error().code, base::ErrorCode::kUnavailable);
}

TEST(PortsTest, ATakenPortIsSaidSo) {
  const auto server = server_on(0);
  ASSERT_NE(server, nullptr);
  const base::Status status = check_port("127.0.0.1", server->port());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("is taken"));
  EXPECT_FALSE(check_port("0.0.0.0", server->port()));
}

TEST(PortsTest, AnAddressOfAnotherMachineIsSaidSo) {
  const base::Status status = check_port("192.0.2.1", 8000);  // for documentation (RFC 5737)
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("192.0.2.1"));
}

TEST(PortsTest, NamesAreNoAddresses) {
  EXPECT_EQ(address_problem("127.0.0.1"), "");
  EXPECT_EQ(address_problem("::1"), "");
  for (const char* host : {"", "localhost", "1.2.3", "[::1]", "127.0.0.1:8000"}) {
    EXPECT_THAT(address_problem(host), HasSubstr("no IPv4 or IPv6 address")) << host;
    const base::Status status = check_port(host, 0);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, base::ErrorCode::kInvalidArgument);
  }
}

TEST(PortsTest, UrlsNameOneAddress) {
  EXPECT_EQ(url_host("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(url_host("0.0.0.0"), "127.0.0.1");
  EXPECT_EQ(url_host("::"), "[::1]");
  EXPECT_EQ(url_host("fe80::1"), "[fe80::1]");
}

}  // namespace
}  // namespace conclave::cli
