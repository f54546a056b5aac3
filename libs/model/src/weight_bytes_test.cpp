#include "conclave/model/weight_bytes.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "conclave/kernels/kernel_table.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/model/local_experts.hpp"

namespace conclave::model {
namespace {

// Every matrix of a model of toy size may lose most of a cache line to rounding.
constexpr double kRounding = 1.1;

TEST(WeightBytesTest, AreWhatLoadingTakesOfEveryArchitecture) {
  const std::string models = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/models";
  base::ThreadPool pool(2);
  const kernels::Compute compute{kernels::kernel_table(kernels::Isa::kScalar), pool};
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(models)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const gguf::File file = gguf::File::open(entry.path()).value();
    const ModelConfig config = read_config(file).value();

    const auto backbone = packed_backbone_bytes(file, config);
    const auto experts = packed_experts_bytes(file, config);
    ASSERT_TRUE(backbone) << backbone.error().to_string();
    ASSERT_TRUE(experts) << experts.error().to_string();

    const auto loaded = Backbone::load(file, config, compute, {}).value()->bytes();
    const auto hosted = LocalExperts::load(file, config, compute, {}).value()->bytes();
    EXPECT_GE(*backbone, loaded);
    EXPECT_LE(static_cast<double>(*backbone), kRounding * static_cast<double>(loaded));
    EXPECT_GE(*experts, hosted);
    EXPECT_LE(static_cast<double>(*experts), kRounding * static_cast<double>(hosted));
    ++count;
  }
  EXPECT_GT(count, 10u);
}

}  // namespace
}  // namespace conclave::model
