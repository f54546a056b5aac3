#include "bench_token_cost.hpp"

#include <gtest/gtest.h>

#include <string>

namespace conclave::cli {
namespace {

struct Golden {
  gguf::File file;
  model::ModelConfig config;
};

Golden golden(const std::string& name) {
  auto file = gguf::File::open(CONCLAVE_SOURCE_DIR "/tests/golden/models/" + name);
  EXPECT_TRUE(file.has_value()) << name;
  auto config = model::read_config(*file);
  EXPECT_TRUE(config.has_value()) << name;
  return {std::move(*file), *config};
}

// Bytes of all tensors whose name has `part`.
double bytes_of(const gguf::File& file, const std::string& part) {
  double bytes = 0.0;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    if (tensor.name.find(part) != std::string::npos)
      bytes += static_cast<double>(tensor.range.size);
  }
  return bytes;
}

// What a token of a model in F32 costs whose experts have `routed` bytes together.
TokenCost expected(const Golden& model, double routed) {
  const double used =
      static_cast<double>(model.config.gate.used) / static_cast<double>(model.config.gate.experts);
  EXPECT_LT(used, 1.0);
  EXPECT_GT(routed, 0.0);
  const auto embeddings = static_cast<double>(model.file.find("token_embd.weight")->range.size);
  const gguf::TensorInfo* output = model.file.find("output.weight");
  const double head = output == nullptr ? 0.0 : static_cast<double>(output->range.size);
  const double layers = bytes_of(model.file, "") - embeddings - head - routed * (1.0 - used);
  // Four bytes a weight, two operations each.
  return {layers + (output == nullptr ? embeddings : head + embeddings / model.config.vocab),
          layers / 2.0};
}

TEST(TokenCostTest, CountsTheExpertsThatAreUsedAndOneEmbedding) {
  const Golden model = golden("qwen3moe-f32.gguf");
  const TokenCost wanted = expected(model, bytes_of(model.file, "_exps."));
  const TokenCost cost = token_cost(model.file, model.config);
  EXPECT_DOUBLE_EQ(cost.decode_bytes, wanted.decode_bytes);
  EXPECT_DOUBLE_EQ(cost.prompt_ops, wanted.prompt_ops);
}

TEST(TokenCostTest, FindsExpertsThatAreOneTensorEach) {
  const Golden model = golden("llama-split-experts-f32.gguf");
  const TokenCost wanted =
      expected(model, bytes_of(model.file, ".ffn_gate.") + bytes_of(model.file, ".ffn_up.") +
                          bytes_of(model.file, ".ffn_down."));
  const TokenCost cost = token_cost(model.file, model.config);
  EXPECT_DOUBLE_EQ(cost.decode_bytes, wanted.decode_bytes);
  EXPECT_DOUBLE_EQ(cost.prompt_ops, wanted.prompt_ops);
}

TEST(TokenCostTest, EmbeddingsThatAreTheHeadAreReadWhole) {
  const Golden model = golden("qwen3moe-tied-f16.gguf");
  const TokenCost cost = token_cost(model.file, model.config);
  EXPECT_GT(cost.decode_bytes, bytes_of(model.file, "token_embd"));
}

}  // namespace
}  // namespace conclave::cli
