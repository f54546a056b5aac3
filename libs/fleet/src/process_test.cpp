#include "conclave/fleet/process.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <array>

namespace conclave::fleet {
namespace {

std::string host_name() {
  std::array<char, 256> host{};
  EXPECT_EQ(::gethostname(host.data(), host.size() - 1), 0);
  return host.data();
}

TEST(AdvertisedAddressTest, IsWhatTheSettingsSay) {
  EXPECT_EQ(advertised_address("tcp://worker-1:7700", "tcp://0.0.0.0:7700", {}),
            "tcp://worker-1:7700");
}

TEST(AdvertisedAddressTest, IsTheAddressListenedOn) {
  EXPECT_EQ(advertised_address("", "tcp://127.0.0.1:4711", {}), "tcp://127.0.0.1:4711");
  EXPECT_EQ(advertised_address("", "direct://worker", {}), "direct://worker");
}

TEST(AdvertisedAddressTest, NamesThisHostForEveryInterface) {
  for (const char* everywhere : {"tcp://0.0.0.0:7700", "tcp://[::]:7700"}) {
    const std::string address = advertised_address("", everywhere, {});
    EXPECT_TRUE(address.starts_with("tcp://") && address.ends_with(":7700")) << address;
    const std::string host = address.substr(6, address.size() - 11);
    in_addr ip{};
    const bool is_address = ::inet_pton(AF_INET, host.c_str(), &ip) == 1;
    EXPECT_TRUE(is_address ? !host.starts_with("127.") && host != "0.0.0.0" : host == host_name())
        << host;
  }
}

// That it is the right one of several, tests/packaging/outside_test.py sees in containers of two
// networks.
TEST(AdvertisedAddressTest, IsOnTheWayToAPeer) {
  const std::string by_name = advertised_address("", "tcp://0.0.0.0:7700", {});
  const auto towards = [](const std::string& peer) {
    return advertised_address("", "tcp://0.0.0.0:7700", std::array{peer});
  };
  EXPECT_EQ(towards("tcp://scheduler:7600"), by_name);  // is not looked up
  EXPECT_EQ(towards("tcp://127.0.0.1:7600"), by_name);  // nobody else is there
  EXPECT_EQ(towards("tcp://:7600"), by_name);
  EXPECT_EQ(towards("direct://scheduler"), by_name);
  const std::string own = by_name.substr(0, by_name.rfind(':'));
  if (own != "tcp://" + host_name()) {
    EXPECT_EQ(towards(own + ":7600"), by_name);
  }
}

}  // namespace
}  // namespace conclave::fleet
