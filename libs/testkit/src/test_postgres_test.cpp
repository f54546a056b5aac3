#include "conclave/testkit/test_postgres.hpp"

#include <gtest/gtest.h>

namespace conclave::testkit {
namespace {

TEST(TestPostgresTest, KeepsWhatItAcknowledgedThroughStopsAndCrashes) {
  TestPostgres server;
  const std::string url = server.make_database();
  EXPECT_EQ(server.run_sql(url, "CREATE TABLE t AS SELECT 1 AS a, 'x' AS b; TABLE t"), "1|x");

  server.stop();
  EXPECT_FALSE(server.is_running());
  server.start();
  (void)server.run_sql(url, "INSERT INTO t VALUES (2, 'y')");
  server.kill();
  server.start();

  EXPECT_EQ(server.run_sql(url, "SELECT count(*) FROM t"), "2");
  EXPECT_EQ(server.run_sql(server.make_database(), "SELECT to_regclass('t') IS NULL"), "t");
}

}  // namespace
}  // namespace conclave::testkit
