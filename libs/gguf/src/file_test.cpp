#include "conclave/gguf/file.hpp"

#include <gtest/gtest.h>

#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using test::Bytes;

Bytes copy(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(FileTest, EveryValueTypeComesBack) {
  const Bytes bytes = test::make_file(test::every_value_type());

  const auto file = File::parse(bytes);

  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->alignment(), 32u);
  const Metadata& m = file->metadata();
  const Metadata written = test::every_value_type();
  ASSERT_EQ(m.entries().size(), written.entries().size());
  for (std::size_t i = 0; i < m.entries().size(); ++i) {
    EXPECT_EQ(m.entries()[i].first, written.entries()[i].first);
    EXPECT_EQ(m.entries()[i].second.data.index(), written.entries()[i].second.data.index());
  }
  EXPECT_EQ(m.get<std::string>("string").value(), "caf\xC3\xA9");
  EXPECT_EQ(m.get<double>("f64").value(), 0.1);
  EXPECT_EQ(m.get_array<char>("array.bool").value(), (std::vector<char>{1, 0, 1}));
  // Equal bytes when written again: so equal values, nested arrays included.
  EXPECT_EQ(test::make_file(m), bytes);
}

TEST(FileTest, EveryBlockTypeComesBack) {
  std::vector<Bytes> data;
  const auto tensors = test::every_block_type(data);
  const Bytes bytes = test::make_file({}, tensors);

  const auto file = File::parse(bytes);

  ASSERT_TRUE(file) << file.error().to_string();
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& tensor = file->tensors()[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    EXPECT_EQ(tensor.type, tensors[i].type);
    EXPECT_EQ(tensor.range.offset % 32, 0u);
    EXPECT_EQ(copy(file->bytes(tensor)), data[i]);
    EXPECT_EQ(file->find(tensor.name), &tensor);
  }
  EXPECT_EQ(file->find("t.Q2_K"), nullptr);
  EXPECT_EQ(file->parts().size(), 1u);
  EXPECT_EQ(file->parts()[0].size, bytes.size());
}

TEST(FileTest, ReadsVersion2AndOtherAlignments) {
  Metadata metadata;
  metadata.set("general.alignment", {std::uint32_t{256}});
  const Bytes data = test::pattern(16);
  const WriterTensor tensors[] = {{"a", {4}, BlockType::kF32, data},
                                  {"b", {4}, BlockType::kF32, data}};
  Bytes bytes = test::make_file(metadata, tensors);
  bytes[4] = std::byte{2};

  const auto file = File::parse(bytes);

  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->version(), 2u);
  EXPECT_EQ(file->alignment(), 256u);
  EXPECT_EQ(file->find("b")->range.offset % 256, 0u);
  EXPECT_EQ(copy(file->bytes(*file->find("b"))), data);
}

TEST(FileTest, NeedsNoPaddingAfterTheLastTensorAndAllowsGaps) {
  test::RawFile raw(2, 0);
  raw.tensor("late", {1}, 0, 64).tensor("early", {1}, 0, 0).data(68);

  const auto file = File::parse(raw.bytes());

  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->tensors()[0].name, "late");
  EXPECT_EQ(file->bytes(*file->find("late")).size(), 4u);
}

TEST(FileTest, SpansStayValidWhenMoved) {
  const Bytes bytes = test::make_file(test::every_value_type());
  auto file = File::parse(bytes);
  ASSERT_TRUE(file);
  const std::string* name = &file->metadata().entries()[0].first;

  const File moved = std::move(*file);

  EXPECT_EQ(&moved.metadata().entries()[0].first, name);
}

TEST(FileDeathTest, StopsOnARangeOutsideThePart) {
  const Bytes bytes = test::make_file({});
  const auto file = File::parse(bytes);
  ASSERT_TRUE(file);
  EXPECT_DEATH((void)file->bytes(ByteRange{0, 1, bytes.size()}), "check failed");
  EXPECT_DEATH((void)file->bytes(ByteRange{1, 0, 0}), "check failed");
}

TEST(TensorInfoTest, DescribesItself) {
  const TensorInfo tensor{"t", {64, 128, 8}, BlockType::kQ8_0, {}};
  EXPECT_EQ(tensor.elements(), 65536u);
  EXPECT_EQ(tensor.describe(), "Q8_0 [64, 128, 8]");
}

TEST(ExpertRangeTest, SlicesTheLastDimension) {
  const std::size_t size = *bytes_of(BlockType::kQ8_0, 64 * 3 * 4);
  const Bytes data = test::pattern(size);
  const WriterTensor tensor{"blk.0.ffn_up_exps.weight", {64, 3, 4}, BlockType::kQ8_0, data};
  const Bytes bytes = test::make_file({}, std::span(&tensor, 1));
  const auto file = File::parse(bytes);
  ASSERT_TRUE(file);

  Bytes joined;
  for (std::uint64_t expert = 0; expert < 4; ++expert) {
    const auto range = expert_range(file->tensors()[0], expert);
    ASSERT_TRUE(range);
    EXPECT_EQ(range->size, 204u);
    const auto slice = file->bytes(*range);
    joined.insert(joined.end(), slice.begin(), slice.end());
  }

  EXPECT_EQ(joined, data);
  const auto beyond = expert_range(file->tensors()[0], 4);
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(beyond.error().message.find("expert 4 of 4"), std::string::npos);
}

TEST(ExpertRangeTest, SlicesBiasesAndRefusesOtherShapes) {
  const TensorInfo bias{"b", {5, 2}, BlockType::kF32, {3, 96, 40}};
  EXPECT_EQ(expert_range(bias, 1).value(), (ByteRange{3, 116, 20}));
  const TensorInfo vector{"v", {5}, BlockType::kF32, {0, 0, 20}};
  EXPECT_EQ(expert_range(vector, 0).error().code, ErrorCode::kInvalidArgument);
  const TensorInfo ragged{"r", {16, 2}, BlockType::kQ8_0, {0, 0, 34}};
  EXPECT_EQ(expert_range(ragged, 0).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::gguf
