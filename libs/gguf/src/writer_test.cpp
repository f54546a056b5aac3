#include "conclave/gguf/writer.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>

#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using test::Bytes;

std::string refusal(const Metadata& metadata, const WriterTensor& tensor) {
  const auto result = serialize(metadata, std::span(&tensor, 1));
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  return result.error().message;
}

class WriterTest : public testing::Test {
 protected:
  WriterTest()
      : directory_(std::filesystem::path(testing::TempDir()) /
                   ("gguf_writer_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(directory_);
  }
  ~WriterTest() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
};

TEST_F(WriterTest, PutsEveryByteWhereTheSpecificationSays) {
  Metadata metadata;
  metadata.set("k", {std::uint16_t{7}});
  const Bytes data = test::pattern(8);
  const WriterTensor tensors[] = {{"t", {2, 1}, BlockType::kF32, data},
                                  {"u", {2}, BlockType::kF32, data}};

  const auto bytes = serialize(metadata, tensors);

  test::RawFile expected(2, 1);
  expected.string("k").number(std::uint32_t{2}).number(std::uint16_t{7});
  expected.tensor("t", {2, 1}, 0, 0).tensor("u", {2}, 0, 32).data(64);
  Bytes all = expected.bytes();
  std::copy(data.begin(), data.end(), all.end() - 64);
  std::copy(data.begin(), data.end(), all.end() - 32);
  ASSERT_TRUE(bytes);
  EXPECT_EQ(*bytes, all);
}

TEST_F(WriterTest, WrittenFileEqualsSerializedBytes) {
  std::vector<Bytes> data;
  const auto tensors = test::every_block_type(data);
  const Metadata metadata = test::every_value_type();
  const auto path = directory_ / "model.gguf";

  ASSERT_TRUE(write(path, metadata, tensors));
  ASSERT_TRUE(write(path, metadata, tensors));  // replaces what is there

  const auto file = File::open(path);
  ASSERT_TRUE(file) << file.error().to_string();
  const Bytes expected = test::make_file(metadata, tensors);
  const auto whole = file->bytes(ByteRange{0, 0, file->parts()[0].size});
  EXPECT_TRUE(std::equal(whole.begin(), whole.end(), expected.begin(), expected.end()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(WriterTest, LeavesNothingBehindWhenItFails) {
  const auto missing = write(directory_ / "no" / "model.gguf", {}, {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);

  const auto onto_directory = directory_ / "taken";
  std::filesystem::create_directories(onto_directory / "inside");
  EXPECT_EQ(write(onto_directory, {}, {}).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(WriterTest, RefusesTensorsThatNoReaderWouldTake) {
  const Bytes data(34);
  const auto with = [&](std::string name, std::vector<std::uint64_t> shape, BlockType type) {
    return refusal({}, {std::move(name), std::move(shape), type, data});
  };
  EXPECT_EQ(with("ok", {32}, BlockType::kQ8_0), "accepted");
  EXPECT_EQ(with(std::string(63, 'n'), {32}, BlockType::kQ8_0), "accepted");
  EXPECT_NE(with(std::string(64, 'n'), {32}, BlockType::kQ8_0).find("longer"), std::string::npos);
  EXPECT_NE(with("", {32}, BlockType::kQ8_0).find("empty"), std::string::npos);
  EXPECT_NE(with("\xFF", {32}, BlockType::kQ8_0).find("UTF-8"), std::string::npos);
  EXPECT_NE(with("t", {}, BlockType::kQ8_0).find("0 dimensions"), std::string::npos);
  EXPECT_NE(with("t", {32, 1, 1, 1, 1}, BlockType::kQ8_0).find("5 dimensions"), std::string::npos);
  EXPECT_NE(with("t", {32, 0}, BlockType::kQ8_0).find("dimension is 0"), std::string::npos);
  EXPECT_NE(with("t", {16, 2}, BlockType::kQ8_0).find("whole number"), std::string::npos);
  EXPECT_NE(with("t", {64}, BlockType::kQ8_0).find("34 bytes"), std::string::npos);
  const std::uint64_t huge = std::uint64_t{1} << 40;
  EXPECT_NE(with("t", {huge, huge}, BlockType::kF32).find("too many"), std::string::npos);

  const WriterTensor twins[] = {{"t", {32}, BlockType::kQ8_0, data},
                                {"t", {32}, BlockType::kQ8_0, data}};
  EXPECT_EQ(serialize({}, twins).error().message, "tensor name 't' is a duplicate");
}

TEST_F(WriterTest, RefusesMetadataThatNoReaderWouldTake) {
  const auto with = [](std::string key, Value value) {
    Metadata m;
    m.set(std::move(key), std::move(value));
    const auto result = serialize(m, {});
    return result ? std::string("accepted") : result.error().message;
  };
  EXPECT_EQ(with("general.alignment", {std::uint32_t{64}}), "accepted");
  EXPECT_NE(with("general.alignment", {std::uint32_t{48}}).find("is 48"), std::string::npos);
  EXPECT_NE(with("general.alignment", {std::uint32_t{0}}).find("is 0"), std::string::npos);
  EXPECT_NE(with("", {true}).find("empty"), std::string::npos);
  EXPECT_NE(with(std::string(65536, 'k'), {true}).find("over-long"), std::string::npos);
  EXPECT_NE(with("\xC0", {true}).find("UTF-8"), std::string::npos);
  EXPECT_NE(with("k", {Array(std::vector<Value>{Value{true}})}).find("only arrays nest"),
            std::string::npos);
  Value nested{Array(std::vector<std::uint8_t>{1})};
  for (int depth = 1; depth < 4; ++depth) nested = Value{Array(std::vector<Value>{nested})};
  EXPECT_EQ(with("k", nested), "accepted");
  EXPECT_NE(with("k", {Array(std::vector<Value>{nested})}).find("nest deeper than 4"),
            std::string::npos);
}

}  // namespace
}  // namespace conclave::gguf
