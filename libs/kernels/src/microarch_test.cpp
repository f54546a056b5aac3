#include "microarch.hpp"

#include <gmock/gmock.h>

#include <fstream>
#include <string>

namespace conclave::kernels {
namespace {

// The value of a field that Linux tells of the first processor.
std::string cpuinfo(const std::string& field) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field + "\t")) return line.substr(line.find(':') + 2);
  }
  return "";
}

TEST(MicroarchTest, IsThatOfTheProcessorThatLinuxFinds) {
  const std::string vendor = cpuinfo("vendor_id");
  const std::string family = cpuinfo("cpu family");
  ASSERT_NE(vendor, "");
  ASSERT_NE(family, "");
  Microarch expected = Microarch::kOther;
  if (vendor == "GenuineIntel") expected = Microarch::kIntel;
  if (vendor == "AuthenticAMD" && std::stoi(family) >= 26) expected = Microarch::kZen5;
  EXPECT_EQ(microarch(), expected);
}

}  // namespace
}  // namespace conclave::kernels
