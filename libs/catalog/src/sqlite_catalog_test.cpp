// What is special about a catalog in a file: it outlives the process, may be damaged, and may be
// used by several processes.
#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/catalog/open.hpp"
#include "sqlite_schema.hpp"
#include "testing_scans.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::made_scan;
using testing::HasSubstr;

const Change kChange{"tester", "", 5, {}, false};

base::Result<Version> add(Catalog& catalog, const std::string& name, std::uint8_t seed,
                          std::vector<std::string> aliases = {}) {
  return catalog.add_version(made_scan(name, seed), {"/m", std::move(aliases), false, {}}, kChange);
}

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

  // What the database says to a statement that it should refuse.
  [[nodiscard]] std::string refusal(const std::string& sql) const {
    sqlite3* database = nullptr;
    CONCLAVE_CHECK(sqlite3_open(path_.c_str(), &database) == SQLITE_OK);
    char* message = nullptr;
    sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &message);
    std::string text = message != nullptr ? message : "done";
    sqlite3_free(message);
    sqlite3_close(database);
    return text;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(SqliteCatalogTest, WhatWasAcknowledgedIsThereAfterReopening) {
  const auto added = add(*open_catalog(path_).value(), "m", 1, {"production"});

  auto catalog = open_catalog(path_).value();

  EXPECT_EQ(catalog->resolve("m").value(), added->record);
  EXPECT_EQ(catalog->digests({"m", 1}).value().expert, made_scan("m", 1).digests.expert);
}

TEST_F(SqliteCatalogTest, WhatAKilledProcessAcknowledgedIsThere) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto catalog = open_catalog(path_);
    const bool ok = catalog && add(**catalog, "m", 1);
    if (ok) ::kill(::getpid(), SIGKILL);  // closes nothing
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));

  EXPECT_TRUE(open_catalog(path_).value()->resolve("m:1"));
}

// A file as the first release wrote it.
TEST_F(SqliteCatalogTest, BringsTheFirstSchemaUpToDate) {
  run_sql(std::string(sqlite_steps()[0]) +
          "INSERT INTO model (id, name) VALUES (1, 'm'), (2, 'empty');"
          "INSERT INTO version VALUES (1, 1, printf('%064d', 1), '/m', 1, 'qwen3moe', 'F32', 1, 1,"
          " 3, 1, 4, 2, 1, 1, 7), (1, 2, printf('%064d', 2), '/m', 1, 'qwen3moe', 'F32', 1, 1,"
          " 3, 1, 4, 2, 1, 1, 8);"
          "INSERT INTO digest VALUES (1, 1, zeroblob(32), zeroblob(32 * 12)),"
          " (1, 2, zeroblob(32), zeroblob(32 * 12));"
          "INSERT INTO alias VALUES (1, 'production', 1);"
          "PRAGMA application_id = 1129202508; PRAGMA user_version = 1");

  const auto catalog = open_catalog(path_).value();

  EXPECT_EQ(catalog->resolve("m").value().model.version, 1u);
  EXPECT_EQ(catalog->find_version("m", 2).value().state, VersionState::kPublished);
  EXPECT_EQ(catalog->digests({"m", 1}).value().expert.size(), 12u);
  const Model model = catalog->find_model("m").value();
  EXPECT_EQ(model.versions, 2u);
  EXPECT_EQ(model.created_unix_ms, 7);
  EXPECT_EQ(add(*catalog, "m", 1)->record.model.version, 3u);
  EXPECT_EQ(catalog->find_model("empty").value().versions, 0u);
}

TEST_F(SqliteCatalogTest, TheDatabaseItselfKeepsAuditAndVersions) {
  ASSERT_TRUE(add(*open_catalog(path_).value(), "m", 1));
  for (const char* forbidden :
       {"UPDATE audit SET actor = 'x'", "DELETE FROM audit",
        "UPDATE version SET sha256 = printf('%064d', 0)", "UPDATE version SET description = 'x'",
        "UPDATE version SET state = 'draft'", "DELETE FROM version",
        "UPDATE digest SET backbone = zeroblob(32)"}) {
    EXPECT_THAT(refusal(forbidden), HasSubstr("never")) << forbidden;
  }
}

TEST_F(SqliteCatalogTest, FindsAnAuditThatWasAltered) {
  for (std::uint8_t i = 1; i < 9; ++i) ASSERT_TRUE(add(*open_catalog(path_).value(), "m", i));
  const auto catalog = open_catalog(path_).value();
  run_sql("DROP TRIGGER audit_kept; DROP TRIGGER audit_never_deleted");
  EXPECT_EQ(catalog->verify_audit({}).value().first_bad, 0u);
  run_sql("UPDATE audit SET subject = subject || ' ' WHERE sequence = 6");
  EXPECT_EQ(catalog->verify_audit({}).value().first_bad, 6u);
  run_sql("DELETE FROM audit WHERE sequence = 3");
  EXPECT_EQ(catalog->verify_audit({}).value().first_bad, 3u);
}

TEST_F(SqliteCatalogTest, RefusesANewerSchema) {
  ASSERT_TRUE(open_catalog(path_));
  run_sql("PRAGMA user_version = 1000");

  const auto catalog = open_catalog(path_);

  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(catalog.error().message, HasSubstr("schema 1000"));
}

TEST_F(SqliteCatalogTest, RefusesADatabaseOfSomethingElse) {
  run_sql("CREATE TABLE cookies (id INTEGER)");

  const auto catalog = open_catalog(path_);

  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(SqliteCatalogTest, RefusesAFileThatIsNoDatabase) {
  std::ofstream(path_) << std::string(5000, 'x');
  const auto catalog = open_catalog(path_);
  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().code, ErrorCode::kCorruptData);
  EXPECT_THAT(catalog.error().message, HasSubstr(path_));
}

// Every page in turn is overwritten: the catalog either says so when it is opened, or still gives
// back what was stored.
TEST_F(SqliteCatalogTest, ADamagedFileIsNeverReadAsSomethingElse) {
  {
    auto catalog = open_catalog(path_).value();
    for (std::uint8_t i = 0; i < 40; ++i) {
      ASSERT_TRUE(add(*catalog, "m" + std::to_string(i), i));
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

    const auto catalog = open_catalog(path_);

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
  const auto catalog = open_catalog(folder_ + "/no/such/folder/catalog.sqlite");
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
      auto catalog = open_catalog(path_);
      if (!catalog) ::_exit(2);
      for (std::uint8_t i = 0; i < kEach; ++i) {
        const auto seed = static_cast<std::uint8_t>(process / 2 * kEach + i);
        if (!add(**catalog, "m", seed)) ::_exit(3);
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

  const auto list = open_catalog(path_).value()->list({"", 100}).value();

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
