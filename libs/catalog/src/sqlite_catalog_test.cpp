// What is special about a catalog in a file: it outlives the process, may be damaged, and may be
// used by several processes.
#include "conclave/catalog/sqlite_catalog.hpp"

#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "conclave/base/check.hpp"
#include "testing_scans.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::made_scan;
using testing::HasSubstr;

const std::vector<std::string> kNoAliases;

class SqliteCatalogTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "sqlite_catalog_test." + std::to_string(::getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    path_ = folder_ + "/catalog.sqlite";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void run_sql(const std::string& sql) const {
    sqlite3* database = nullptr;
    CONCLAVE_CHECK(sqlite3_open(path_.c_str(), &database) == SQLITE_OK);
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
        << message;
    sqlite3_free(message);
    sqlite3_close(database);
  }

  std::string folder_;
  std::string path_;
};

TEST_F(SqliteCatalogTest, WhatWasAcknowledgedIsThereAfterReopening) {
  const auto added = SqliteCatalog::open(path_).value()->add(
      made_scan("m", 1), "/m", std::vector<std::string>{"production"}, 5);

  auto catalog = SqliteCatalog::open(path_).value();

  EXPECT_EQ(catalog->resolve("m").value(), added.value());
  EXPECT_EQ(catalog->digests({"m", 1}).value().expert, made_scan("m", 1).digests.expert);
}

TEST_F(SqliteCatalogTest, WhatAKilledProcessAcknowledgedIsThere) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto catalog = SqliteCatalog::open(path_);
    const bool ok = catalog && (*catalog)->add(made_scan("m", 1), "/m", kNoAliases, 5);
    if (ok) ::kill(::getpid(), SIGKILL);  // closes nothing
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));

  EXPECT_TRUE(SqliteCatalog::open(path_).value()->resolve("m:1"));
}

TEST_F(SqliteCatalogTest, RefusesANewerSchema) {
  ASSERT_TRUE(SqliteCatalog::open(path_));
  run_sql("PRAGMA user_version = 1000");

  const auto catalog = SqliteCatalog::open(path_);

  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(catalog.error().message, HasSubstr("schema 1000"));
}

TEST_F(SqliteCatalogTest, RefusesADatabaseOfSomethingElse) {
  run_sql("CREATE TABLE cookies (id INTEGER)");

  const auto catalog = SqliteCatalog::open(path_);

  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(SqliteCatalogTest, RefusesAFileThatIsNoDatabase) {
  std::ofstream(path_) << std::string(5000, 'x');
  const auto catalog = SqliteCatalog::open(path_);
  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kCorruptData);
  EXPECT_THAT(catalog.error().message, HasSubstr(path_));
}

// Every page in turn is overwritten: the catalog either says so when it is opened, or still gives
// back what was stored.
TEST_F(SqliteCatalogTest, ADamagedFileIsNeverReadAsSomethingElse) {
  {
    auto catalog = SqliteCatalog::open(path_).value();
    for (std::uint8_t i = 0; i < 40; ++i) {
      ASSERT_TRUE(catalog->add(made_scan("m" + std::to_string(i), i), "/m", kNoAliases, 5));
    }
  }
  constexpr std::size_t kPage = 4096;
  const auto size = std::filesystem::file_size(path_);
  ASSERT_GT(size, 4 * kPage);
  const std::string intact = path_ + ".intact";
  std::filesystem::copy_file(path_, intact);
  int refused = 0;
  for (std::size_t page = 0; page < size / kPage; ++page) {
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
    std::filesystem::copy_file(intact, path_);
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(page * kPage));
    file << std::string(kPage, '\x5a');
    file.close();

    const auto catalog = SqliteCatalog::open(path_);

    if (catalog) {
      EXPECT_EQ((*catalog)->resolve("m7").value().model.sha256,
                made_scan("m7", 7).record.model.sha256)
          << "page " << page;
    } else {
      EXPECT_EQ(catalog.error().code, ErrorCode::kCorruptData) << catalog.error().to_string();
      ++refused;
    }
  }
  EXPECT_GT(refused, 3);
}

TEST_F(SqliteCatalogTest, SaysWhyItCannotBeOpened) {
  const auto catalog = SqliteCatalog::open(folder_ + "/no/such/folder/catalog.sqlite");
  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kUnavailable);
}

// Four processes open the same new file at once and add versions, half of them the same ones.
TEST_F(SqliteCatalogTest, ProcessesThatShareAFileLoseNothing) {
  constexpr std::uint8_t kProcesses = 4;
  constexpr std::uint8_t kEach = 10;
  std::vector<pid_t> children;
  for (std::uint8_t process = 0; process < kProcesses; ++process) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto catalog = SqliteCatalog::open(path_);
      if (!catalog) ::_exit(2);
      for (std::uint8_t i = 0; i < kEach; ++i) {
        const auto seed = static_cast<std::uint8_t>(process / 2 * kEach + i);
        if (!(*catalog)->add(made_scan("m", seed), "/m", kNoAliases, 5)) ::_exit(3);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }

  const auto list = SqliteCatalog::open(path_).value()->list({"", 100}).value();

  std::set<std::string> sums;
  std::set<std::uint32_t> versions;
  for (const auto& record : list.models) {
    sums.insert(record.model.sha256);
    versions.insert(record.model.version);
  }
  EXPECT_EQ(list.models.size(), kProcesses / 2 * std::size_t{kEach});
  EXPECT_EQ(sums.size(), list.models.size());
  EXPECT_EQ(*versions.rbegin(), list.models.size());  // no gaps
}

}  // namespace
}  // namespace conclave::catalog
