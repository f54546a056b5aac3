// What is special about a catalog in PostgreSQL: it goes away and comes back, others write to it at
// the same time, and its schema has a history.
#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <pqxx/pqxx>
#include <thread>

#include "conclave/catalog/open.hpp"
#include "conclave/testkit/test_postgres.hpp"
#include "postgres_driver.hpp"
#include "postgres_pool.hpp"
#include "postgres_schema.hpp"
#include "sql.hpp"
#include "testing_scans.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::Result;
using test::made_scan;
using testing::HasSubstr;
using testing::Not;

testkit::TestPostgres& server() { return testkit::shared_postgres(); }

const Change kChange{"tester", "", 5, {}, false};

class PostgresCatalogTest : public testing::Test {
 protected:
  void SetUp() override {
    server().start();
    url_ = server().make_database();
  }
  void TearDown() override { server().start(); }

  [[nodiscard]] std::unique_ptr<Catalog> open() const { return open_catalog(url_).value(); }
  static Result<Version> add(Catalog& catalog, std::uint8_t seed) {
    return catalog.add_version(made_scan("m", seed), {"/m", {}, false, {}}, kChange);
  }
  // Asks until the catalog answers again.
  static bool heals(Catalog& catalog) {
    for (int tries = 0; tries < 1000; ++tries) {
      if (catalog.ping()) return true;
    }
    return false;
  }
  [[nodiscard]] std::string sql(const std::string& text) const {
    return server().run_sql(url_, text);
  }
  // What the database says to a statement that it should refuse.
  [[nodiscard]] std::string refusal(const std::string& text) const {
    try {
      pqxx::connection connection(url_);
      pqxx::work work(connection);
      work.exec(text);
      work.commit();
    } catch (const std::exception& thrown) {
      return thrown.what();
    }
    return "done";
  }

  std::string url_;
};

TEST_F(PostgresCatalogTest, HealsAfterTheServerWasAway) {
  const auto catalog = open();
  ASSERT_TRUE(add(*catalog, 1));
  const UsageRow row{"t", "k", "m", 1, {1, 1, 1, 1, 1}};

  server().stop();
  for (int i = 0; i < 3; ++i) {
    const auto refused = add(*catalog, 2);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable) << refused.error().to_string();
    const auto read = catalog->resolve("m");
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, ErrorCode::kUnavailable) << read.error().to_string();
    EXPECT_FALSE(catalog->add_usage("b1", {&row, 1}, 5));
  }
  EXPECT_EQ(open_catalog(url_).error().code, ErrorCode::kUnavailable);
  server().start();

  ASSERT_TRUE(heals(*catalog));
  EXPECT_EQ(catalog->resolve("m").value().model.version, 1u);
  EXPECT_EQ(add(*catalog, 2).value().record.model.version, 2u);
  EXPECT_TRUE(catalog->add_usage("b1", {&row, 1}, 5).value());
  EXPECT_EQ(catalog->verify_audit({}).value().problem, "");
}

TEST_F(PostgresCatalogTest, RestartsBetweenCallsAreNotNoticed) {
  const auto catalog = open();
  ASSERT_TRUE(add(*catalog, 1));
  for (std::uint8_t i = 2; i < 5; ++i) {
    server().stop();
    server().start();
    const auto added = add(*catalog, i);  // the idle connections are all lost
    EXPECT_TRUE(added) << added.error().to_string();
  }
}

// The server is killed again and again while two catalogs write: what they acknowledged is there,
// once, and the chain is whole.
TEST_F(PostgresCatalogTest, WhatWasAcknowledgedOutlivesCrashes) {
  constexpr int kCrashes = 4;
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> batches = 0, events = 0;
  const auto write = [&](Catalog* catalog, const std::string& name) {
    const UsageRow row{"t", "k", "m", 1, {1, 0, 0, 0, 0}};
    for (int n = 0; !stop; ++n) {
      const std::string id = name + std::to_string(n);
      // A batch is sent until it is acknowledged, as gateways do.
      while (!catalog->add_usage(id, {&row, 1}, 5) && !stop) {
      }
      if (!stop) ++batches;
      if (catalog->record_event({"event", id, ""}, kChange)) ++events;
    }
  };
  // All are open before the first crash: opening fails while the server is away.
  const auto watcher = open(), first = open(), second = open();
  std::thread a(write, first.get(), "a"), b(write, second.get(), "b");
  for (int i = 0; i < kCrashes; ++i) {
    const std::uint64_t before = batches;
    while (batches < before + 20) std::this_thread::yield();
    server().kill();
    server().start();
  }
  stop = true;
  a.join();
  b.join();

  ASSERT_TRUE(heals(*watcher));
  const auto usage = watcher->usage({"", "", "", 1, 1, UsageBy::kTotal}).value();
  // One batch of each writer may have been stored without anybody having heard of it.
  EXPECT_GE(usage.at(0).counts.requests, batches);
  EXPECT_LE(usage.at(0).counts.requests, batches + 2);
  EXPECT_EQ(sql("SELECT count(*) FROM conclave.usage_batch"),
            std::to_string(usage.at(0).counts.requests));
  const AuditCheck check = watcher->verify_audit({}).value();
  EXPECT_EQ(check.problem, "");
  EXPECT_GE(check.records, events);
  EXPECT_EQ(sql("SELECT count(*) - count(DISTINCT subject) FROM conclave.audit"), "0");
}

TEST_F(PostgresCatalogTest, AWatchHearsOfWhatHappenedWhileItWasCutOff) {
  const auto catalog = open();
  std::mutex mutex;
  std::condition_variable heard;
  std::uint64_t last = 0;
  const auto watch = catalog
                         ->watch([&](std::uint64_t revision) {
                           const std::scoped_lock lock(mutex);
                           last = revision;
                           heard.notify_all();
                         })
                         .value();
  const auto await = [&](std::uint64_t revision) {
    std::unique_lock lock(mutex);
    return heard.wait_for(lock, std::chrono::seconds(60), [&] { return last == revision; });
  };
  ASSERT_TRUE(add(*catalog, 1));
  ASSERT_TRUE(await(2));
  server().stop();
  server().start();
  ASSERT_TRUE(heals(*catalog));
  ASSERT_TRUE(add(*catalog, 2));
  EXPECT_TRUE(await(3));
}

TEST_F(PostgresCatalogTest, TheDatabaseItselfKeepsAuditAndVersions) {
  ASSERT_TRUE(add(*open(), 1));
  for (const char* forbidden :
       {"UPDATE conclave.audit SET actor = 'x'", "DELETE FROM conclave.audit",
        "TRUNCATE conclave.audit", "UPDATE conclave.version SET sha256 = repeat('0', 64)",
        "UPDATE conclave.version SET description = 'x'",
        "UPDATE conclave.version SET state = 'draft'", "DELETE FROM conclave.version",
        "UPDATE conclave.digest SET backbone = backbone"}) {
    EXPECT_THAT(refusal(forbidden), HasSubstr("never")) << forbidden;
  }
}

TEST_F(PostgresCatalogTest, FindsAnAuditThatWasAltered) {
  const auto catalog = open();
  for (std::uint8_t i = 1; i < 9; ++i) ASSERT_TRUE(add(*catalog, i));
  const auto altered = [&](const std::string& how) {
    (void)sql(
        "CREATE TABLE kept AS TABLE conclave.audit;"
        "ALTER TABLE conclave.audit DISABLE TRIGGER ALL;" +
        how);
    const AuditCheck check = catalog->verify_audit({}).value();
    (void)sql("DELETE FROM conclave.audit; INSERT INTO conclave.audit TABLE kept; DROP TABLE kept");
    return check.first_bad;
  };
  EXPECT_EQ(altered("SELECT 1"), 0u);
  EXPECT_EQ(altered("UPDATE conclave.audit SET actor = 'mallory' WHERE sequence = 4"), 4u);
  EXPECT_EQ(altered("UPDATE conclave.audit SET after = '' WHERE sequence = 9"), 9u);
  EXPECT_EQ(altered("DELETE FROM conclave.audit WHERE sequence = 5"), 5u);
  EXPECT_EQ(altered("DELETE FROM conclave.audit WHERE sequence > 7"), 8u);
  EXPECT_EQ(altered("DELETE FROM conclave.audit"), 1u);
}

TEST_F(PostgresCatalogTest, BringsTheFirstSchemaUpToDate) {
  (void)sql(std::string("CREATE SCHEMA conclave; SET search_path = conclave;") + kMakeSchemaTable +
            ";" + postgres_steps()[0] +
            "INSERT INTO schema_version VALUES (1, 1);"
            "INSERT INTO model (name) VALUES ('m'), ('empty');"
            "INSERT INTO version SELECT 1, n, repeat(n::text, 64), '/m', 1, 'qwen3moe', 'F32', 1,"
            " 1, 3, 1, 4, 2, 1, 1, 7 FROM generate_series(1, 2) n;"
            "INSERT INTO digest SELECT 1, n, decode(repeat('00', 32), 'hex'),"
            " decode(repeat('00', 32 * 12), 'hex') FROM generate_series(1, 2) n;"
            "INSERT INTO alias VALUES (1, 'production', 1)");

  const auto catalog = open();

  EXPECT_EQ(catalog->resolve("m").value().model.version, 1u);
  EXPECT_EQ(catalog->find_version("m", 2).value().state, VersionState::kPublished);
  EXPECT_EQ(catalog->digests({"m", 1}).value().expert.size(), 12u);
  const Model model = catalog->find_model("m").value();
  EXPECT_EQ(model.versions, 2u);
  EXPECT_EQ(model.created_unix_ms, 7);
  EXPECT_EQ(add(*catalog, 1).value().record.model.version, 3u);
  EXPECT_EQ(catalog->find_model("empty").value().versions, 0u);
  EXPECT_EQ(sql("SELECT version FROM conclave.schema_version"),
            std::to_string(postgres_steps().size()));
}

TEST_F(PostgresCatalogTest, RefusesANewerSchema) {
  ASSERT_NE(open(), nullptr);
  (void)sql("UPDATE conclave.schema_version SET version = 1000");
  const auto refused = open_catalog(url_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(refused.error().message, HasSubstr("schema 1000"));
}

TEST_F(PostgresCatalogTest, ManyProcessesMayMakeTheSchemaAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> opened = 0;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      const auto catalog = open_catalog(url_);
      EXPECT_TRUE(catalog) << catalog.error().to_string();
      if (catalog) ++opened;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(opened, 6);
}

TEST_F(PostgresCatalogTest, SaysWhatIsWrongWithAnAddress) {
  const auto code = [](const std::string& url) { return open_catalog(url).error().code; };
  EXPECT_EQ(code("postgresql:///x?nothing=1"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("postgresql:///x?host=/no/such/folder"), ErrorCode::kUnavailable);
  const auto error = open_catalog("postgresql://u:geheim@/x?host=/no/such/folder").error();
  EXPECT_THAT(error.message, Not(HasSubstr("geheim")));
}

// Two transactions read and write what the other reads: one of them is repeated.
TEST_F(PostgresCatalogTest, RepeatsTransactionsThatCollided) {
  ASSERT_NE(open(), nullptr);
  const auto driver = open_postgres(url_, {}).value();
  constexpr sql::Statement kRead{"read", "SELECT token FROM lease WHERE name = $1"};
  constexpr sql::Statement kWrite{"write", "UPDATE lease SET token = $2 WHERE name = $1"};
  (void)sql("INSERT INTO conclave.lease VALUES ('a', '', 0, 0), ('b', '', 0, 0)");
  std::atomic<int> reads = 0, runs = 0;
  const auto add = [&](const char* from, const char* to) {
    // Different locks: they do not wait for each other.
    const sql::Lock lock = *from == 'a' ? sql::Lock::kUsage : sql::Lock::kCatalog;
    return driver->write(lock, [&, from, to](sql::Session& session) -> Result<sql::End> {
      ++runs;
      CONCLAVE_TRY(const sql::Rows rows, session.run(kRead, from));
      ++reads;
      while (reads < 2) std::this_thread::yield();  // both have read
      CONCLAVE_TRY_VOID(session.apply(kWrite, to, rows.front().integer(0) + 1));
      return sql::End::kCommit;
    });
  };
  std::thread other([&] { EXPECT_TRUE(add("a", "b").status); });
  EXPECT_TRUE(add("b", "a").status);
  other.join();

  EXPECT_EQ(runs, 3);
  EXPECT_EQ(sql("SELECT sum(token) FROM conclave.lease"), "3");  // 1, and 2 after it
}

TEST_F(PostgresCatalogTest, WaitsForAConnectionForABoundedTime) {
  CatalogOptions options;
  options.connections_max = 2;
  options.connection_wait_ms = 50;
  postgres::Pool pool(postgres::connection_string(url_).value(), options);
  auto first = pool.lend();
  auto second = pool.lend();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(pool.lend().error().code, ErrorCode::kOverloaded);
  { const auto given_back = std::move(*first); }
  EXPECT_TRUE(pool.lend());
}

TEST_F(PostgresCatalogTest, AStatementEndsAfterItsTime) {
  CatalogOptions options;
  options.statement_timeout_ms = 50;
  options.attempts_max = 1;
  const auto driver = open_postgres(url_, options).value();
  constexpr sql::Statement kSleep{"sleep", "SELECT pg_sleep(60)"};
  const auto status = driver->read([&](sql::Session& session) -> Result<sql::End> {
    CONCLAVE_TRY_VOID(session.apply(kSleep));
    return sql::End::kCommit;
  });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable) << status.error().to_string();
}

TEST_F(PostgresCatalogTest, LeasesGoByTheClockOfTheServer) {
  const auto catalog = open();
  const Lease lease = catalog->acquire_lease("leader", "a", 60'000, 0).value();
  EXPECT_GT(lease.expires_unix_ms, 1'600'000'000'000);
  EXPECT_EQ(catalog->acquire_lease("leader", "b", 1000, INT64_MAX - 5000).value(), lease);
}

TEST(RedactedTest, HidesPasswords) {
  EXPECT_EQ(redacted("postgres://u:secret@host:5432/db"), "postgres://u:***@host:5432/db");
  EXPECT_EQ(redacted("postgresql://u@host/db?password=secret&x=1"),
            "postgresql://u@host/db?password=***&x=1");
  EXPECT_EQ(redacted("postgres://host/db"), "postgres://host/db");
  EXPECT_EQ(redacted("/var/lib/a:b@c.db"), "/var/lib/a:b@c.db");
}

}  // namespace
}  // namespace conclave::catalog
