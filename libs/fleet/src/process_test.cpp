#include "conclave/fleet/process.hpp"

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
  EXPECT_EQ(advertised_address("tcp://worker-1:7700", "tcp://0.0.0.0:7700"), "tcp://worker-1:7700");
}

TEST(AdvertisedAddressTest, IsTheAddressListenedOn) {
  EXPECT_EQ(advertised_address("", "tcp://127.0.0.1:4711"), "tcp://127.0.0.1:4711");
  EXPECT_EQ(advertised_address("", "direct://worker"), "direct://worker");
}

TEST(AdvertisedAddressTest, NamesTheHostForEveryInterface) {
  EXPECT_EQ(advertised_address("", "tcp://0.0.0.0:7700"), "tcp://" + host_name() + ":7700");
  EXPECT_EQ(advertised_address("", "tcp://[::]:7700"), "tcp://" + host_name() + ":7700");
}

}  // namespace
}  // namespace conclave::fleet
