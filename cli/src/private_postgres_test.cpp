#include "private_postgres.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>

namespace conclave::cli {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class PrivatePostgresTest : public testing::Test {
 protected:
  void SetUp() override {
    // As /root is: closed to all other users.
    std::string name = (fs::temp_directory_path() / "conclave-pg-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    closed_ = name;
    state_ = closed_ / "state";
    fs::create_directory(state_);
  }
  void TearDown() override { fs::remove_all(closed_); }

  // What psql prints, or nothing if it fails.
  static std::string sql(const PrivatePostgres& postgres, const std::string& statement) {
    const fs::path psql = postgres_programs().value() / "psql";
    const std::string line =
        psql.string() + " -XqAt -c '" + statement + "' '" + postgres.url + "' 2>/dev/null";
    FILE* pipe = ::popen(line.c_str(), "r");
    std::string said;
    for (int c = 0; (c = std::fgetc(pipe)) != EOF;) said += static_cast<char>(c);
    return ::pclose(pipe) == 0 ? said : "";
  }

  // Runs the server until `done`, which is asked again and again, is true.
  static base::Status run(const PrivatePostgres& postgres, const std::function<bool()>& done,
                          int* falls = nullptr) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    Supervisor* self = nullptr;
    std::string said;
    Supervisor supervisor(
        {postgres.server},
        {.line = [&](const std::string&, std::string_view line) { said += line; },
         .fell = [&](const std::string&, const std::string&, auto) { falls && ++*falls; },
         .ending = {},
         .tick =
             [&] {
               if (done() || std::chrono::steady_clock::now() > end) self->end();
             }});
    self = &supervisor;
    const base::Status status = supervisor.run(std::chrono::seconds(20));
    EXPECT_LT(std::chrono::steady_clock::now(), end) << said;
    return status;
  }

  fs::path closed_;
  fs::path state_;
};

TEST_F(PrivatePostgresTest, KeepsWhatItWasGivenInADirectoryOfItsOwn) {
  const auto first = prepare_postgres(state_);
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(run(*first, [&] {
    return sql(*first, "CREATE TABLE IF NOT EXISTS t AS SELECT 7 AS a; TABLE t") == "7\n";
  }));
  EXPECT_EQ(fs::status(state_ / "postgres").permissions(), fs::perms::owner_all);
  EXPECT_FALSE(fs::exists(state_ / "postgres" / "postmaster.pid")) << "it ended in order";

  const auto second = prepare_postgres(state_);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->url, first->url);
  EXPECT_TRUE(run(*second, [&] { return sql(*second, "TABLE t") == "7\n"; }));
}

TEST_F(PrivatePostgresTest, ComesBackAfterItWasKilled) {
  const auto postgres = prepare_postgres(state_);
  ASSERT_TRUE(postgres) << postgres.error().message;
  int falls = 0;
  bool killed = false;
  ASSERT_TRUE(run(
      *postgres,
      [&] {
        if (sql(*postgres, "SELECT 1").empty()) return false;
        if (killed) return falls > 0;
        killed = true;
        // The postmaster itself, of which its file's first line tells.
        (void)sql(*postgres, "CREATE TABLE t AS SELECT 7 AS a");
        FILE* file = std::fopen((state_ / "postgres" / "postmaster.pid").c_str(), "r");
        int pid = 0;
        if (file == nullptr || std::fscanf(file, "%d", &pid) != 1) return false;
        std::fclose(file);
        ::kill(pid, SIGKILL);
        return false;
      },
      &falls));
  EXPECT_GE(falls, 1);
}

TEST_F(PrivatePostgresTest, WhatWasBrokenOffIsMadeAnew) {
  fs::create_directories(state_ / "postgres.new" / "base");
  EXPECT_TRUE(prepare_postgres(state_));
  EXPECT_FALSE(fs::exists(state_ / "postgres.new"));
}

TEST_F(PrivatePostgresTest, SaysWhatIsMissing) {
  fs::create_directory(state_ / "postgres");
  std::FILE* file = std::fopen((state_ / "postgres" / "PG_VERSION").c_str(), "w");
  std::fputs("9.1\n", file);
  std::fclose(file);
  const auto old = prepare_postgres(state_);
  ASSERT_FALSE(old);
  EXPECT_EQ(old.error().code, base::ErrorCode::kFailedPrecondition);
  EXPECT_THAT(old.error().message, HasSubstr("postgresql-9.1"));

  const fs::path deep = state_ / std::string(100, 'x');
  EXPECT_EQ(prepare_postgres(deep).error().code, base::ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::cli
