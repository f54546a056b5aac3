#include "conclave/catalog/sum_store.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

namespace conclave::catalog {
namespace {

namespace fs = std::filesystem;

struct SumStoreTest : testing::Test {
  fs::path folder =
      fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
  SumStore store{folder / "sums"};
  ModelSums sums{std::string(64, 'a'), wire::Sha256{1, 2, 255}, {{3}, {}, {4}}};

  SumStoreTest() {
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  ~SumStoreTest() override { fs::remove_all(folder); }

  [[nodiscard]] FileStamp file(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name) << text;
    return FileStamp::of(folder / name).value();
  }
  [[nodiscard]] fs::path only_file() const {
    return fs::directory_iterator(folder / "sums")->path();
  }
};

TEST_F(SumStoreTest, KnowsWhatItKept) {
  const FileStamp parts[] = {file("a", "one"), file("b\nc", "two")};
  EXPECT_EQ(store.find(parts, 3), std::nullopt);
  ASSERT_TRUE(store.keep(parts, sums));
  EXPECT_EQ(store.find(parts, 3), sums);
  EXPECT_EQ(SumStore(folder / "sums").find(parts, 3), sums);
  EXPECT_EQ(store.find(std::span(parts).first(1), 3), std::nullopt);
  EXPECT_EQ(store.find(parts, 2), std::nullopt);
  EXPECT_EQ(store.find(parts, 4), std::nullopt);
}

TEST_F(SumStoreTest, ForgetsAFileThatChangedInAnyWay) {
  const FileStamp stamp = file("a", "one");
  ASSERT_TRUE(store.keep({&stamp, 1}, sums));
  const auto is_known = [&](FileStamp other) { return store.find({&other, 1}, 3).has_value(); };
  EXPECT_TRUE(is_known(stamp));
  FileStamp other = stamp;
  ++other.size;
  EXPECT_FALSE(is_known(other));
  other = stamp;
  ++other.modified_ns;
  EXPECT_FALSE(is_known(other));
  other = stamp;
  ++other.changed_ns;
  EXPECT_FALSE(is_known(other));
  other = stamp;
  ++other.inode;
  EXPECT_FALSE(is_known(other));
  other = stamp;
  ++other.device;
  EXPECT_FALSE(is_known(other));
  // Another file of the same size in its place.
  fs::rename(folder / "a", folder / "old");
  EXPECT_FALSE(is_known(file("a", "two")));
}

TEST_F(SumStoreTest, IgnoresWhatWasDamagedOrCut) {
  const FileStamp stamp = file("a", "one");
  ASSERT_TRUE(store.keep({&stamp, 1}, sums));
  const fs::path path = only_file();
  std::string text;
  {
    std::ifstream in(path);
    text.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (std::size_t at = 0; at + 1 < text.size(); at += 7) {
    std::string damaged = text;
    damaged[at] = damaged[at] == '0' ? '1' : '0';
    std::ofstream(path) << damaged;
    EXPECT_EQ(store.find({&stamp, 1}, 3), std::nullopt) << at;
  }
  std::ofstream(path) << text.substr(0, text.size() - 1);
  EXPECT_EQ(store.find({&stamp, 1}, 3), std::nullopt);
  std::ofstream(path) << text;
  EXPECT_EQ(store.find({&stamp, 1}, 3), sums);
}

TEST_F(SumStoreTest, KeepsABoundedNumberOfFiles) {
  FileStamp stamp = file("a", "one");
  for (std::size_t i = 0; i < SumStore::kFilesMax + 5; ++i) {
    stamp.path = "/model/" + std::to_string(i);
    ASSERT_TRUE(store.keep({&stamp, 1}, sums));
  }
  const auto count = std::distance(fs::directory_iterator(folder / "sums"), {});
  EXPECT_EQ(static_cast<std::size_t>(count), SumStore::kFilesMax);
  EXPECT_TRUE(store.find({&stamp, 1}, 3));
}

TEST_F(SumStoreTest, SaysThatItCannotWrite) {
  const FileStamp stamp = file("a", "one");
  const SumStore nowhere(folder / "a" / "sums");
  const base::Status kept = nowhere.keep({&stamp, 1}, sums);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, base::ErrorCode::kUnavailable);
  EXPECT_EQ(nowhere.find({&stamp, 1}, 3), std::nullopt);
}

TEST(FileStampTest, TellsThatThereIsNoFile) {
  EXPECT_EQ(FileStamp::of("/no/such/file").error().code, base::ErrorCode::kNotFound);
}

}  // namespace
}  // namespace conclave::catalog
