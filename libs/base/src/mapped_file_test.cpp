#include "conclave/base/mapped_file.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace conclave::base {
namespace {

TEST(MappedFileTest, ShowsTheBytesOfAFileAndKeepsThemWhenMoved) {
  const auto path = std::filesystem::path(testing::TempDir()) / "mapped_file_test.bin";
  std::ofstream(path, std::ios::binary) << "conclave";
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.error().to_string();
  const std::byte* data = file->bytes().data();

  const MappedFile moved = std::move(*file);

  EXPECT_EQ(moved.bytes().data(), data);
  ASSERT_EQ(moved.bytes().size(), 8u);
  EXPECT_EQ(static_cast<char>(moved.bytes()[7]), 'e');
  std::filesystem::remove(path);
}

TEST(MappedFileTest, ForgottenBytesComeBackWhenTheyAreTouched) {
  const auto path = std::filesystem::path(testing::TempDir()) / "mapped_file_forget_test.bin";
  std::ofstream(path, std::ios::binary) << std::string(100'000, 'x') << "end";
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.error().to_string();
  const auto bytes = file->bytes();
  file->will_need(bytes.subspan(5, 50'000));
  EXPECT_EQ(static_cast<char>(bytes[99'999]), 'x');
  file->forget(bytes.subspan(70'001));
  file->forget({});
  EXPECT_EQ(static_cast<char>(bytes[70'000]), 'x');
  EXPECT_EQ(static_cast<char>(bytes[100'002]), 'd');
  std::filesystem::remove(path);
}

TEST(MappedFileTest, TellsAMissingFileFromOneThatIsNoFile) {
  EXPECT_EQ(MappedFile::open("/no/such/file").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(MappedFile::open(testing::TempDir()).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::base
