#include "bench_limits.hpp"

#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

// A processor made since 2006 and its memory, under a sanitizer and beside other work; and what no
// machine reaches for some time. Outside of this the arithmetic is wrong, not the machine.
constexpr double kSlowest = 1e7;
constexpr double kFastest = 1e16;

TEST(LimitsProbeTest, EveryInstructionSetOfThisMachineHasItsPeak) {
  for (const auto isa : kernels::kIsas) {
    if (!kernels::supported(isa)) continue;
    auto probe = LimitsProbe::create(2, isa);
    ASSERT_TRUE(probe.has_value()) << probe.error().to_string();
    EXPECT_EQ(probe->threads(), 2u);
    const MachineLimits limits = probe->measure();
    EXPECT_GT(limits.memory_bytes_per_s, kSlowest);
    EXPECT_LT(limits.memory_bytes_per_s, kFastest);
    EXPECT_GT(limits.int8_ops_per_s, kSlowest);
    EXPECT_LT(limits.int8_ops_per_s, kFastest);
  }
}

}  // namespace
}  // namespace conclave::cli
