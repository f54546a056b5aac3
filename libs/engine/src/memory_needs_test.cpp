#include "conclave/engine/memory_needs.hpp"

#include <gmock/gmock.h>

#include <string>

namespace conclave::engine {
namespace {

using testing::HasSubstr;

TEST(CheckMemoryTest, TakesWhatFitsToTheByte) {
  const MemoryNeed needs[] = {{"the experts", 700}, {"keys and values", 300}};
  EXPECT_TRUE(check_memory(needs, 1000, "buy more"));
  EXPECT_TRUE(check_memory({}, 0, "buy more"));
}

TEST(CheckMemoryTest, RefusesTheRestWithTheArithmetic) {
  const MemoryNeed needs[] = {{"the experts", 1'521'000'000},
                              {"keys and values (65536 tokens of 65536 bytes)", 4'294'967'296},
                              {"computing", 17'250'000}};
  const base::Status status =
      check_memory(needs, 3'900'000'000, "lower router.batch.kv-tokens-max");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kFailedPrecondition);
  EXPECT_EQ(status.error().message,
            "needs 5.83 GB of memory (1.52 GB for the experts, 4.29 GB for keys and values (65536 "
            "tokens of 65536 bytes), 17.2 MB for computing), 3.90 GB are available: lower "
            "router.batch.kv-tokens-max");
  EXPECT_FALSE(check_memory(needs, 0, "x"));
}

TEST(CheckMemoryTest, IsNotFooledBySumsThatOverflow) {
  const MemoryNeed needs[] = {{"a", ~std::uint64_t{0}}, {"b", 2}};
  EXPECT_FALSE(check_memory(needs, 1000, "x"));
}

TEST(MemoryNeedsTest, AreThoseOfTheModelAndTheSettings) {
  const auto file = gguf::File::open(std::string(CONCLAVE_SOURCE_DIR) +
                                     "/tests/golden/models/qwen3moe-q8_0.gguf");
  ASSERT_TRUE(file) << file.error().to_string();
  const model::ModelConfig config = model::read_config(*file).value();
  std::uint64_t data = 0;
  for (const gguf::TensorInfo& tensor : file->tensors()) data += tensor.range.size;

  const std::uint64_t weights =
      backbone_need(*file, config).value().bytes + experts_need(*file, config).value().bytes;
  EXPECT_GT(weights, data / 2);
  EXPECT_LE(weights, data);

  BatcherOptions options;
  options.kv_tokens_max = 100;  // in whole blocks of 16
  const MemoryNeed kv = kv_need(config, options);
  EXPECT_EQ(kv.bytes, 7 * model::KvPool::block_bytes(config, options.kv_type));
  EXPECT_THAT(kv.what, HasSubstr("112 tokens of "));

  const std::uint64_t step = step_need(config, options).bytes;
  options.step_rows_max *= 2;
  EXPECT_GT(step_need(config, options).bytes, step);
}

}  // namespace
}  // namespace conclave::engine
