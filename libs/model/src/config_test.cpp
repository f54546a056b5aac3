// Configurations that contradict themselves: each a small change of a golden model's metadata.
#include "conclave/model/config.hpp"

#include <gmock/gmock.h>

#include <functional>
#include <list>

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

using WriterTensors = std::vector<gguf::WriterTensor>;

WriterTensors tensors_of(const gguf::File& file) {
  WriterTensors tensors;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.shape, tensor.type, file.bytes(tensor)});
  }
  return tensors;
}

// The bytes of the golden model `name` with other metadata.
std::vector<std::byte> with_metadata(const std::string& name,
                                     const std::function<void(gguf::Metadata&)>& change) {
  const gguf::File file = open_golden(name);
  gguf::Metadata metadata = file.metadata();
  change(metadata);
  return gguf::serialize(metadata, tensors_of(file)).value();
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
      {"qwen3moe.expert_count", {std::uint32_t{0}}, ErrorCode::kUnimplemented},
      {"qwen3moe.expert_count", {std::uint32_t{16385}}, ErrorCode::kCorruptData},
      {"qwen3moe.leading_dense_block_count", {std::uint32_t{9}}, ErrorCode::kCorruptData},
      {"qwen3moe.attention.temperature_scale", {0.1f}, ErrorCode::kUnimplemented},
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

TEST(ModelConfigTest, ATensorThatNothingWouldReadIsRefusedByName) {
  const gguf::File file = open_golden("qwen3moe-f32.gguf");
  WriterTensors tensors = tensors_of(file);
  tensors.push_back(tensors.back());
  for (const char* name : {"blk.0.exp_probs_b.weight", "blk.0.attn_sub_norm.weight",
                           "blk.99.attn_q.weight", "blk.0.ffn_up.99.weight", "extra"}) {
    tensors.back().name = name;
    const auto bytes = gguf::serialize(file.metadata(), tensors).value();
    const auto config = read_config(gguf::File::parse(bytes).value());
    ASSERT_FALSE(config) << name;
    EXPECT_EQ(config.error().code, ErrorCode::kUnimplemented);
    EXPECT_THAT(config.error().message, HasSubstr(name));
  }
}

TEST(ModelConfigTest, TextFromTheFileIsShownShortAndWithoutControlCharacters) {
  const auto config = read_with("qwen3moe-f32.gguf", "general.architecture",
                                {"\x1B[2J" + std::string(100'000, 'x')});
  ASSERT_FALSE(config);
  EXPECT_LT(config.error().message.size(), 300u);
  EXPECT_EQ(config.error().message.find('\x1B'), std::string::npos);
}

TEST(ModelConfigTest, AFactorOfZeroMeansNoScaling) {
  const auto config = read_with("qwen3moe-f32.gguf", "qwen3moe.rope.scaling.factor", {0.0f});
  ASSERT_TRUE(config) << config.error().to_string();
  EXPECT_EQ(config->rope.scale, 1.0f);
}

TEST(ModelConfigTest, TheTensorsTellTheWidthOfExpertsThatNoKeyNames) {
  const gguf::File file = open_golden("qwen2moe-f32.gguf");
  gguf::Metadata metadata;
  for (const auto& [key, value] : file.metadata().entries()) {
    if (key != "qwen2moe.expert_feed_forward_length") metadata.set(key, value);
  }
  const auto bytes = gguf::serialize(metadata, tensors_of(file)).value();
  EXPECT_EQ(read_config(gguf::File::parse(bytes).value()).value().expert_ffn,
            read_config(file).value().expert_ffn);
}

// gpt-oss with its gate and up tensors, weights and biases, joined: gate rows first.
std::vector<std::byte> fused(const gguf::File& file, std::uint64_t experts) {
  const std::string gate = "ffn_gate_exps";
  WriterTensors tensors;
  std::list<std::vector<std::byte>> joined;  // keeps the data where the tensors point
  for (const gguf::WriterTensor& tensor : tensors_of(file)) {
    const auto at = tensor.name.find(gate);
    if (tensor.name.find("ffn_up_exps") != std::string::npos) continue;
    tensors.push_back(tensor);
    if (at == std::string::npos) continue;
    std::string up = tensor.name;
    up.replace(at, gate.size(), "ffn_up_exps");
    std::vector<std::byte>& both = joined.emplace_back();
    for (std::uint64_t e = 0; e < experts; ++e) {
      for (const gguf::TensorInfo* part : {file.find(tensor.name), file.find(up)}) {
        const auto slice = file.bytes(gguf::expert_range(*part, e).value());
        both.insert(both.end(), slice.begin(), slice.end());
      }
    }
    gguf::WriterTensor& both_tensor = tensors.back();
    both_tensor.name.replace(at, gate.size(), "ffn_gate_up_exps");
    both_tensor.shape[both_tensor.shape.size() - 2] *= 2;
    both_tensor.data = both;
  }
  return gguf::serialize(file.metadata(), tensors).value();
}

TEST(ExpertLoaderTest, FusedWeightsAndBiasesGiveTheSameExpert) {
  const gguf::File file = open_golden("gpt-oss-f32.gguf");
  const ModelConfig config = read_config(file).value();
  const auto bytes = fused(file, config.gate.experts);
  const gguf::File other = gguf::File::parse(bytes).value();
  const ModelConfig other_config = read_config(other).value();
  for (const ExpertId id : {ExpertId{0, 0}, ExpertId{config.layers - 1, config.gate.experts - 1}}) {
    const Expert plain = load_expert(file, config, id).value();
    const Expert joint = load_expert(other, other_config, id).value();
    EXPECT_FALSE(plain.gate.bias.empty());
    EXPECT_EQ(joint.gate.bias, plain.gate.bias);
    EXPECT_EQ(joint.up.bias, plain.up.bias);
    EXPECT_EQ(joint.down.bias, plain.down.bias);
    for (std::size_t i = 0; i < plain.up.weight.bytes(); ++i) {
      ASSERT_EQ(joint.gate.weight.panel(0)[i], plain.gate.weight.panel(0)[i]);
      ASSERT_EQ(joint.up.weight.panel(0)[i], plain.up.weight.panel(0)[i]);
    }
    EXPECT_EQ(expert_ranges(other, other_config, id).value().size(), 6u);
  }
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
