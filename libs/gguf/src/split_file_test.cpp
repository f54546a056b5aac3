// Models in parts, as gguf-split cuts them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "conclave/gguf/file.hpp"
#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using test::Bytes;
using testing::HasSubstr;

class SplitFileTest : public testing::Test {
 protected:
  SplitFileTest()
      : directory_(std::filesystem::path(testing::TempDir()) /
                   ("gguf_split_" + std::to_string(::getpid()))),
        data_(test::pattern(64)) {
    std::filesystem::create_directories(directory_);
  }
  ~SplitFileTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::filesystem::path part(int number) const {
    return directory_ / ("m-0000" + std::to_string(number) + "-of-00003.gguf");
  }

  // Part `number` with the tensors `names` of 4 floats each.
  void write_part(int number, const Metadata& metadata, const std::vector<std::string>& names) {
    std::vector<WriterTensor> tensors;
    for (const std::string& name : names) {
      const auto at = tensors.size() * 16;
      tensors.push_back({name, {4}, BlockType::kF32, std::span(data_).subspan(at, 16)});
    }
    ASSERT_TRUE(write(part(number), metadata, tensors));
  }

  // The first without tensors, as gguf-split can make it.
  void write_model() {
    write_part(1, test::split_metadata(0, 3, 3), {});
    write_part(2, test::split_metadata(1, 3, 3), {"a", "b"});
    write_part(3, test::split_metadata(2, 3, 3), {"c"});
  }

  void expect_refusal(ErrorCode code, const std::vector<std::string>& words) {
    const auto file = File::open(part(1));
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, code) << file.error().to_string();
    for (const std::string& word : words) EXPECT_THAT(file.error().message, HasSubstr(word));
  }

  std::filesystem::path directory_;
  Bytes data_;
};

TEST_F(SplitFileTest, OpensThroughAnyPart) {
  write_model();
  for (int number = 1; number <= 3; ++number) {
    const auto file = File::open(part(number));
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->metadata().get<std::string>("general.architecture").value(), "llama");
    ASSERT_EQ(file->parts().size(), 3u);
    EXPECT_EQ(file->parts()[2].path, part(3));
    EXPECT_EQ(file->parts()[2].size, std::filesystem::file_size(part(3)));
    ASSERT_EQ(file->tensors().size(), 3u);
    EXPECT_EQ(file->find("b")->range.part, 1u);
    const auto b = file->bytes(*file->find("b"));
    EXPECT_TRUE(std::equal(b.begin(), b.end(), data_.begin() + 16));
    EXPECT_EQ(file->find("c")->range.part, 2u);
  }
}

TEST_F(SplitFileTest, MergedLeftoversAreWhole) {
  for (const std::uint16_t count : {std::uint16_t{0}, std::uint16_t{1}}) {
    ASSERT_TRUE(write(part(1), test::split_metadata(0, count, 1), {}));
    const auto file = File::open(part(1));
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->parts().size(), 1u);
  }
}

TEST_F(SplitFileTest, NamesAMissingPart) {
  write_model();
  std::filesystem::remove(part(2));
  expect_refusal(ErrorCode::kNotFound, {"part 2 of 3", part(2).string()});
  EXPECT_EQ(File::open(directory_ / "absent.gguf").error().code, ErrorCode::kNotFound);
}

TEST_F(SplitFileTest, NamesADamagedPart) {
  write_model();
  std::filesystem::resize_file(part(3), 40);
  expect_refusal(ErrorCode::kCorruptData, {part(3).string(), "part 3 of 3"});
}

TEST_F(SplitFileTest, RefusesARenamedPart) {
  write_model();
  std::filesystem::rename(part(1), directory_ / "renamed.gguf");
  const auto file = File::open(directory_ / "renamed.gguf");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(file.error().message, HasSubstr("-00001-of-00003.gguf"));
}

TEST_F(SplitFileTest, RefusesPartsThatDisagree) {
  write_model();
  write_part(2, test::split_metadata(2, 3, 3), {"a", "b"});
  expect_refusal(ErrorCode::kCorruptData, {part(2).string(), "part 3 of 3", "part 2 of 3"});
  write_part(2, test::split_metadata(1, 4, 3), {"a", "b"});
  expect_refusal(ErrorCode::kCorruptData, {part(2).string(), "of 4"});
  write_part(2, test::split_metadata(1, 3, 9), {"a", "b"});
  expect_refusal(ErrorCode::kCorruptData, {part(2).string(), "9 tensors"});
  write_part(2, {}, {"a", "b"});
  expect_refusal(ErrorCode::kCorruptData, {part(2).string(), "part 1 of 1"});
  write_part(2, test::split_metadata(1, 3, 3), {"a"});
  expect_refusal(ErrorCode::kCorruptData, {"2 tensors, split.tensors.count says 3"});
  write_part(2, test::split_metadata(1, 3, 3), {"a", "c"});
  expect_refusal(ErrorCode::kCorruptData, {"'c'", "duplicate"});
}

TEST_F(SplitFileTest, RefusesSplitKeysThatMakeNoSense) {
  write_part(1, test::split_metadata(3, 3, 3), {});
  expect_refusal(ErrorCode::kCorruptData, {"split.no is 3 of split.count 3"});
  write_part(1, test::split_metadata(0, 5000, 3), {});
  expect_refusal(ErrorCode::kCorruptData, {"split.count is 5000", "4096"});
  Metadata no_index;
  no_index.set("split.count", {std::uint16_t{3}});
  write_part(1, no_index, {});
  expect_refusal(ErrorCode::kCorruptData, {"'split.no' is missing"});
  Metadata text;
  text.set("split.count", {std::string("3")});
  write_part(1, text, {});
  expect_refusal(ErrorCode::kCorruptData, {"split.count", "string"});
}

TEST_F(SplitFileTest, PartsDoNotParseFromMemory) {
  const Bytes bytes = test::make_file(test::split_metadata(1, 3, 3));
  const auto file = File::parse(bytes);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(file.error().message, HasSubstr("part 2 of 3"));
}

}  // namespace
}  // namespace conclave::gguf
