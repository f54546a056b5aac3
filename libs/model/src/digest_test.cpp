#include "conclave/model/digest.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "conclave/gguf/writer.hpp"

namespace conclave::model {
namespace {

using base::ErrorCode;

constexpr const char* kEveryLayout[] = {"qwen3moe-f32.gguf", "qwen3moe-fused-f32.gguf",
                                        "deepseek2-v3-f32.gguf", "llama-split-experts-f32.gguf",
                                        "gpt-oss-mxfp4.gguf"};

gguf::File open_golden(const std::string& name) {
  return gguf::File::open(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/models/" + name)
      .value();
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<Sha256> all_digests(const gguf::File& file) {
  const ModelConfig config = read_config(file).value();
  std::vector<Sha256> sums;
  for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
    for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
      sums.push_back(expert_digest(file, config, {layer, index}).value());
    }
  }
  return sums;
}

// The tensors of `file` in the opposite order, with one byte of one of them changed if asked.
std::vector<std::byte> rewritten(const gguf::File& file, const std::string& spoiled_tensor,
                                 std::size_t spoiled_byte, std::vector<std::byte>& spoiled) {
  std::vector<gguf::WriterTensor> tensors;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.shape, tensor.type, file.bytes(tensor)});
    if (tensor.name != spoiled_tensor) continue;
    spoiled.assign(tensors.back().data.begin(), tensors.back().data.end());
    spoiled.at(spoiled_byte) ^= std::byte{1};
    tensors.back().data = spoiled;
  }
  std::reverse(tensors.begin(), tensors.end());
  return gguf::serialize(file.metadata(), tensors).value();
}

TEST(ExpertDigestTest, IsWhatAHasherSaysThatLoadingTheExpertFed) {
  for (const char* name : kEveryLayout) {
    const gguf::File file = open_golden(name);
    const ModelConfig config = read_config(file).value();
    base::Arena arena(0);
    Sha256Hasher hasher;
    for (const ExpertId id :
         {ExpertId{config.dense_layers, 0}, ExpertId{config.layers - 1, config.gate.experts - 1}}) {
      ASSERT_TRUE(load_expert(file, config, id, arena, &hasher)) << name;
      EXPECT_EQ(hasher.finish(), expert_digest(file, config, id).value()) << name;
    }
  }
}

// FIPS 180-4's own examples.
TEST(Sha256HasherTest, GivesThePublishedSumsInAnyPieces) {
  Sha256Hasher hasher;
  EXPECT_EQ(to_hex(hasher.finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  hasher.update(bytes_of("abc"));
  const Sha256 whole = hasher.finish();
  EXPECT_EQ(to_hex(whole), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  hasher.update(bytes_of("a"));
  hasher.update({});
  hasher.update(bytes_of("bc"));
  EXPECT_EQ(hasher.finish(), whole);
}

TEST(ExpertDigestTest, IsTheSumOfTheExpertsRangesOneAfterTheOther) {
  for (const char* name : kEveryLayout) {
    const gguf::File file = open_golden(name);
    const ModelConfig config = read_config(file).value();
    const ExpertId id{config.layers - 1, 1};
    std::vector<std::byte> joined;
    const auto ranges = expert_ranges(file, config, id).value();
    for (const gguf::ByteRange& range : ranges) {
      const auto bytes = file.bytes(range);
      joined.insert(joined.end(), bytes.begin(), bytes.end());
    }
    Sha256Hasher hasher;
    hasher.update(joined);

    const auto digest = expert_digest(file, config, id);

    ASSERT_TRUE(digest) << name;
    EXPECT_EQ(*digest, hasher.finish()) << name;
  }
}

TEST(ExpertDigestTest, DiffersBetweenExpertsAndNotWithTheirPlaceInTheFile) {
  const gguf::File file = open_golden("qwen3moe-q4_k.gguf");
  std::vector<std::byte> none;
  const auto bytes = rewritten(file, "", 0, none);
  const gguf::File other = gguf::File::parse(bytes).value();

  const std::vector<Sha256> sums = all_digests(file);

  EXPECT_EQ(all_digests(other), sums);
  EXPECT_EQ(std::set<Sha256>(sums.begin(), sums.end()).size(), sums.size());
}

TEST(ExpertDigestTest, OneChangedByteShowsInItsExpertOnly) {
  const gguf::File file = open_golden("qwen3moe-f32.gguf");
  const ModelConfig config = read_config(file).value();
  const gguf::TensorInfo* down = file.find("blk.1.ffn_down_exps.weight");
  ASSERT_NE(down, nullptr);
  const std::size_t stride = down->range.size / config.gate.experts;
  std::vector<std::byte> spoiled;
  const auto bytes = rewritten(file, down->name, 2 * stride, spoiled);
  const gguf::File other = gguf::File::parse(bytes).value();

  const std::vector<Sha256> before = all_digests(file);
  const std::vector<Sha256> after = all_digests(other);

  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i] == after[i], i != config.gate.experts + 2) << "expert " << i;
  }
}

TEST(ExpertDigestTest, ThereIsNoneForAnExpertThatIsNotThere) {
  const gguf::File file = open_golden("deepseek2-v3-f32.gguf");
  const ModelConfig config = read_config(file).value();
  ASSERT_GT(config.dense_layers, 0u);
  for (const ExpertId id : {ExpertId{0, 0}, ExpertId{config.layers, 0},
                            ExpertId{config.dense_layers, config.gate.experts}}) {
    EXPECT_EQ(expert_digest(file, config, id).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(BackboneDigestTest, IsTheSumOfItsTensorsOneAfterTheOther) {
  for (const char* name : {"qwen3moe-q8_0.gguf", "olmoe-f32.gguf"}) {
    const gguf::File file = open_golden(name);
    const ModelConfig config = read_config(file).value();
    Sha256Hasher hasher;
    const auto tensors = backbone_tensors(file, config).value();
    for (const gguf::TensorInfo* tensor : tensors) {
      hasher.update(file.bytes(tensor->range));
    }
    EXPECT_EQ(backbone_digest(file, config).value(), hasher.finish()) << name;
  }
}

TEST(BackboneTensorsTest, BackboneAndExpertsTogetherAreAllBytesOnce) {
  for (const char* name : kEveryLayout) {
    const gguf::File file = open_golden(name);
    const ModelConfig config = read_config(file).value();
    std::uint64_t all = 0;
    for (const gguf::TensorInfo& tensor : file.tensors()) all += tensor.range.size;

    const auto backbone = backbone_tensors(file, config);

    ASSERT_TRUE(backbone) << name << ": " << backbone.error().to_string();
    std::uint64_t counted = 0;
    std::uint64_t end = 0;
    for (const gguf::TensorInfo* tensor : *backbone) {
      EXPECT_GE(tensor->range.offset, end) << name;
      end = tensor->range.offset + tensor->range.size;
      counted += tensor->range.size;
    }
    for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
      for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
        const auto ranges = expert_ranges(file, config, {layer, index}).value();
        for (const gguf::ByteRange& range : ranges) counted += range.size;
      }
    }
    EXPECT_EQ(counted, all) << name;
  }
}

}  // namespace
}  // namespace conclave::model
