// Configurations that contradict themselves: each a small change of a golden model's metadata.
#include "conclave/model/config.hpp"

#include <gmock/gmock.h>

#include <functional>

#include "conclave/gguf/writer.hpp"
#include "conclave/model/experts.hpp"

namespace conclave::model {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

gguf::File open_golden(const std::string& name) {
  return gguf::File::open(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/models/" + name)
      .value();
}

// The bytes of the golden model `name` with other metadata.
std::vector<std::byte> with_metadata(const std::string& name,
                                     const std::function<void(gguf::Metadata&)>& change) {
  const gguf::File file = open_golden(name);
  gguf::Metadata metadata = file.metadata();
  change(metadata);
  std::vector<gguf::WriterTensor> tensors;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.shape, tensor.type, file.bytes(tensor)});
  }
  return gguf::serialize(metadata, tensors).value();
}

base::Result<ModelConfig> read_with(const std::string& name, const std::string& key,
                                    gguf::Value value) {
  const auto bytes = with_metadata(name, [&](gguf::Metadata& m) { m.set(key, std::move(value)); });
  const auto file = gguf::File::parse(bytes);
  EXPECT_TRUE(file) << file.error().to_string();
  return read_config(*file);
}

TEST(ModelConfigTest, ReadsTheNumbersOfEachArchitecture) {
  const auto qwen = read_config(open_golden("qwen3moe-f32.gguf")).value();
  EXPECT_EQ(qwen.architecture->name, "qwen3moe");
  EXPECT_GT(qwen.gate.experts, qwen.gate.used);
  EXPECT_TRUE(qwen.gate.normalize);

  const auto deepseek = read_config(open_golden("deepseek2-v3-f32.gguf")).value();
  EXPECT_EQ(deepseek.attention.kv_heads, 1u);
  EXPECT_EQ(deepseek.attention.key_dim,
            deepseek.attention.latent.kv_rank + deepseek.attention.latent.rope);
  EXPECT_GT(deepseek.gate.groups, 1u);
  EXPECT_EQ(deepseek.gate.function, GateFunction::kSigmoid);

  const auto gpt = read_config(open_golden("gpt-oss-f32.gguf")).value();
  EXPECT_GT(gpt.window(0), 0u);
  EXPECT_EQ(gpt.window(1), 0u);
}

struct BadValue {
  const char* key;
  gguf::Value value;
  ErrorCode code;
};

TEST(ModelConfigTest, ContradictionsAreNamed) {
  const BadValue cases[] = {
      {"general.architecture", {std::string("nonesuch")}, ErrorCode::kUnimplemented},
      {"general.architecture", {std::uint32_t{3}}, ErrorCode::kCorruptData},
      {"qwen3moe.block_count", {std::uint32_t{0}}, ErrorCode::kCorruptData},
      {"qwen3moe.block_count", {std::uint32_t{4'000'000'000}}, ErrorCode::kCorruptData},
      {"qwen3moe.block_count", {std::int32_t{-1}}, ErrorCode::kCorruptData},
      {"qwen3moe.embedding_length", {std::string("wide")}, ErrorCode::kCorruptData},
      {"qwen3moe.attention.head_count", {std::uint32_t{0}}, ErrorCode::kCorruptData},
      {"qwen3moe.attention.head_count_kv", {std::uint32_t{3}}, ErrorCode::kCorruptData},
      {"qwen3moe.expert_count", {std::uint32_t{0}}, ErrorCode::kCorruptData},
      {"qwen3moe.expert_used_count", {std::uint32_t{100}}, ErrorCode::kCorruptData},
      {"qwen3moe.expert_gating_func", {std::uint32_t{9}}, ErrorCode::kUnimplemented},
      {"qwen3moe.expert_group_count", {std::uint32_t{3}}, ErrorCode::kCorruptData},
      {"qwen3moe.rope.dimension_count", {std::uint32_t{7}}, ErrorCode::kCorruptData},
      {"qwen3moe.rope.freq_base", {-1.0f}, ErrorCode::kCorruptData},
      {"qwen3moe.rope.scaling.type", {std::string("longrope")}, ErrorCode::kUnimplemented},
  };
  for (const BadValue& bad : cases) {
    const auto config = read_with("qwen3moe-f32.gguf", bad.key, bad.value);
    ASSERT_FALSE(config) << bad.key;
    EXPECT_EQ(config.error().code, bad.code) << bad.key << ": " << config.error().message;
    EXPECT_FALSE(config.error().message.empty());
  }
}

TEST(ModelConfigTest, ADenseModelIsRefusedAsSuch) {
  gguf::Metadata metadata;
  metadata.set("general.architecture", {std::string("llama")});
  const auto bytes = gguf::serialize(metadata, {}).value();
  const auto config = read_config(gguf::File::parse(bytes).value());
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(config.error().message, HasSubstr("Mixture-of-Experts"));
}

TEST(ExpertLoaderTest, RangesAreTheExpertsSlicesInEveryLayout) {
  for (const char* name : {"qwen3moe-f32.gguf", "qwen3moe-fused-f32.gguf", "qwen3moe-q4_k.gguf",
                           "llama-split-experts-f32.gguf", "gpt-oss-mxfp4.gguf"}) {
    const gguf::File file = open_golden(name);
    const ModelConfig config = read_config(file).value();
    const ExpertId last{config.layers - 1, config.gate.experts - 1};
    const auto ranges = expert_ranges(file, config, last);
    ASSERT_TRUE(ranges) << name << ": " << ranges.error().to_string();
    EXPECT_EQ(ranges->size(), std::string(name).starts_with("gpt-oss") ? 6u : 3u) << name;
    for (const gguf::ByteRange& range : *ranges) EXPECT_EQ(file.bytes(range).size(), range.size);
    EXPECT_TRUE(load_expert(file, config, last)) << name;
    EXPECT_EQ(load_expert(file, config, {last.layer, last.index + 1}).error().code,
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(load_expert(file, config, {last.layer + 1, 0}).error().code,
              ErrorCode::kInvalidArgument);
  }
}

TEST(ExpertLoaderTest, AMisshapenTensorIsNamed) {
  const auto bytes = with_metadata("qwen3moe-f32.gguf", [](gguf::Metadata& m) {
    m.set("qwen3moe.expert_feed_forward_length", {std::uint32_t{5}});
  });
  const gguf::File file = gguf::File::parse(bytes).value();
  const auto expert = load_expert(file, read_config(file).value(), {0, 0});
  ASSERT_FALSE(expert);
  EXPECT_EQ(expert.error().code, ErrorCode::kCorruptData);
  EXPECT_THAT(expert.error().message, HasSubstr("blk.0.ffn_gate_exps.weight"));
}

}  // namespace
}  // namespace conclave::model
