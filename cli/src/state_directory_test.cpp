#include "state_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

namespace conclave::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class StateDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "conclave-state-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& text) const { std::ofstream(root_ / "up.json") << text; }

  fs::path root_;
};

TEST_F(StateDirectoryTest, IsTheOneChosenOrTheUsers) {
  ::setenv("XDG_STATE_HOME", "/state", 1);
  ::setenv("HOME", "/home/user", 1);
  EXPECT_EQ(state_directory("mine"), "mine");
  EXPECT_EQ(state_directory(""), "/state/conclave");
  ::setenv("XDG_STATE_HOME", "", 1);
  EXPECT_EQ(state_directory(""), "/home/user/.local/state/conclave");
  ::unsetenv("XDG_STATE_HOME");
  ::unsetenv("HOME");
  EXPECT_EQ(state_directory(""), ".conclave");
}

TEST_F(StateDirectoryTest, AddressesAreReadAsWritten) {
  const UpAddresses addresses{"http://127.0.0.1:8000", "tcp://127.0.0.1:1", "/a \"path\"\n"};
  ASSERT_TRUE(write_addresses(root_, {"http://old", "", ""}));
  ASSERT_TRUE(write_addresses(root_, addresses));
  const auto read = read_addresses(root_);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, addresses);
}

TEST_F(StateDirectoryTest, NoAddressesMeanThatNothingRuns) {
  ASSERT_TRUE(write_addresses(root_, {"http://127.0.0.1:8000", "", ""}));
  remove_addresses(root_);
  remove_addresses(root_);
  const auto read = read_addresses(root_);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, base::ErrorCode::kNotFound);
  EXPECT_THAT(read.error().message, HasSubstr("conclave up"));
}

TEST_F(StateDirectoryTest, OtherFilesAreRefused) {
  for (const char* text : {"", "no json", "[]", "{\"url\":\"a\",\"scheduler\":\"b\"}",
                           "{\"url\":\"a\",\"scheduler\":\"b\",\"keys\":3}"}) {
    write(text);
    const auto read = read_addresses(root_);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code, base::ErrorCode::kCorruptData) << text;
  }
}

TEST_F(StateDirectoryTest, AddressesThatCannotBeWrittenAreAnError) {
  const base::Status status = write_addresses(root_ / "missing", {"a", "b", "c"});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable);
}

TEST_F(StateDirectoryTest, OneAtATimeHoldsTheLock) {
  const fs::path state = root_ / "deep" / "state";
  {
    const auto first = StateLock::take(state);
    ASSERT_TRUE(first) << first.error().message;
    const auto second = StateLock::take(state);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, base::ErrorCode::kFailedPrecondition);
    EXPECT_THAT(second.error().message, HasSubstr("--state"));
  }
  EXPECT_TRUE(StateLock::take(state));
}

TEST_F(StateDirectoryTest, ADirectoryThatIsMadeIsForItsUserAlone) {
  ASSERT_TRUE(StateLock::take(root_ / "state"));
  EXPECT_EQ(fs::status(root_ / "state").permissions(), fs::perms::owner_all);
}

TEST_F(StateDirectoryTest, APlaceThatIsNoDirectoryIsAnError) {
  write("a file");
  const auto lock = StateLock::take(root_ / "up.json");
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().code, base::ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::cli
