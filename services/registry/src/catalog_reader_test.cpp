#include "catalog_reader.hpp"

#include <gmock/gmock.h>

#include <chrono>

#include "conclave/catalog/open.hpp"
#include "conclave/testkit/test_postgres.hpp"
#include "testing_scan.hpp"

namespace conclave::registry {
namespace {

using base::ErrorCode;

struct CatalogReaderTest : ::testing::Test {
  testkit::TestPostgres server;
  std::unique_ptr<catalog::Catalog> catalog =
      catalog::open_catalog(server.url(), {.attempts_max = 2}).value();
  int away = 0;
  CatalogReader reader{*catalog, [this](const base::Error&) { ++away; }};
};

TEST_F(CatalogReaderTest, AnswersAsBeforeWhileTheDatabaseIsAway) {
  ASSERT_TRUE(catalog->add_version(testing::scan_of('a'),
                                   {.uri = "/m.gguf", .aliases = {"production"}}, {}));
  const auto record = reader.resolve({"m"});
  const auto digests = reader.digests({"m", 1});
  const auto list = reader.list({});
  ASSERT_TRUE(record && digests && list);
  server.stop();

  EXPECT_EQ(*reader.resolve({"m"}), *record);
  EXPECT_EQ(*reader.digests({"m", 1}), *digests);
  EXPECT_EQ(*reader.list({}), *list);
  EXPECT_EQ(away, 3);
  EXPECT_EQ(reader.resolve({"m@production"}).error().code, ErrorCode::kUnavailable);

  server.start();
  // The store tries the server again after a moment.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  bool is_back = false;
  while (!is_back && std::chrono::steady_clock::now() < give_up) {
    is_back = reader.resolve({"m@production"}).has_value();
  }
  EXPECT_TRUE(is_back);
  EXPECT_EQ(away, 3);
}

TEST_F(CatalogReaderTest, ForgetsWhatIsNotSoAnyMore) {
  ASSERT_TRUE(
      catalog->add_version(testing::scan_of('a'), {.uri = "/m.gguf", .aliases = {"canary"}}, {}));
  ASSERT_TRUE(reader.resolve({"m@canary"}).has_value());
  ASSERT_TRUE(catalog->remove_alias("m", "canary", {}).has_value());
  EXPECT_EQ(reader.resolve({"m@canary"}).error().code, ErrorCode::kNotFound);
  server.stop();

  EXPECT_EQ(reader.resolve({"m@canary"}).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::registry
