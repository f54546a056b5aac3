#include "conclave/model/weight_bytes.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "conclave/kernels/kernel_table.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/model/local_experts.hpp"

namespace conclave::model {
namespace {

// Every matrix of a model of toy size may lose most of a cache line to rounding.
constexpr double kRounding = 1.1;

// KiB of a file's mappings that count as this process's memory, as /proc/self/smaps has it.
std::size_t resident_kib(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  std::size_t kib = 0;
  bool is_wanted = false;
  for (std::string line; std::getline(maps, line);) {
    std::string first;
    std::size_t number = 0;
    std::istringstream words(line);
    words >> first;
    if (first.back() != ':') is_wanted = line.ends_with(path);
    if (is_wanted && first == "Rss:" && words >> number) kib += number;
  }
  return kib;
}

TEST(WeightBytesTest, NothingElseOfTheFileStaysInMemory) {
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / "weight_bytes_test.gguf";
  std::filesystem::copy_file(std::string(CONCLAVE_SOURCE_DIR) + "/models/demo/conclave-demo.gguf",
                             path, std::filesystem::copy_options::overwrite_existing);
  base::ThreadPool pool(2);
  const kernels::Compute compute{kernels::kernel_table(kernels::Isa::kScalar), pool};
  {
    const gguf::File file = gguf::File::open(path).value();
    const ModelConfig config = read_config(file).value();
    EXPECT_GT(resident_kib(path), 0u) << "its header was read just now";
    const auto backbone = Backbone::load(file, config, compute, {}).value();
    EXPECT_EQ(resident_kib(path), 0u);
    const auto experts = LocalExperts::load(file, config, compute, {}).value();
    EXPECT_EQ(resident_kib(path), 0u);
  }
  std::filesystem::remove(path);
}

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
