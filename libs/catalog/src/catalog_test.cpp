// The contract of Catalog, against every store that implements it.
#include "conclave/catalog/version_catalog.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "conclave/catalog/sqlite_catalog.hpp"
#include "conclave/wire/limits.hpp"
#include "testing_scans.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::made_scan;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kNow = 1'750'000'000'000;
const std::vector<std::string> kNoAliases;

class CatalogTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    path_ = GetParam();
    if (path_ != ":memory:") {
      path_ = testing::TempDir() + "catalog_test." + std::to_string(::getpid()) + ".sqlite";
      remove_files();
    }
    catalog_ = SqliteCatalog::open(path_).value();
  }

  void TearDown() override {
    catalog_.reset();
    if (path_ != ":memory:") remove_files();
  }

  void remove_files() const {
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }

  wire::ModelRecord add(const std::string& name, std::uint8_t seed,
                        const std::vector<std::string>& aliases = {}) {
    return catalog_->add(made_scan(name, seed), "/models/" + name, aliases, kNow).value();
  }

  std::vector<std::string> listed(const std::string& after, std::uint32_t limit,
                                  bool* more = nullptr) {
    const wire::ModelList list = catalog_->list({after, limit}).value();
    std::vector<std::string> names;
    for (const auto& record : list.models) {
      names.push_back(record.model.name + ":" + std::to_string(record.model.version));
    }
    if (more != nullptr) *more = list.more;
    return names;
  }

  ErrorCode resolve_error(const std::string& reference) {
    const auto record = catalog_->resolve(reference);
    return record ? ErrorCode{} : record.error().code;
  }

  std::string path_;
  std::unique_ptr<VersionCatalog> catalog_;
};

INSTANTIATE_TEST_SUITE_P(Stores, CatalogTest, testing::Values(":memory:", "file"),
                         [](const auto& store) {
                           return std::string(store.param) == "file" ? "SqliteFile"
                                                                     : "SqliteMemory";
                         });

TEST_P(CatalogTest, GivesBackEveryFieldThatWasAdded) {
  const ModelScan scan = made_scan("qwen", 1);

  const auto added =
      catalog_->add(scan, "/models/q.gguf", std::vector<std::string>{"b", "a"}, kNow);

  ASSERT_TRUE(added) << added.error().to_string();
  wire::ModelRecord expected = scan.record;
  expected.model.version = 1;
  expected.model.uri = "/models/q.gguf";
  expected.aliases = {"a", "b"};
  expected.created_unix_ms = kNow;
  EXPECT_EQ(*added, expected);
  EXPECT_EQ(catalog_->resolve("qwen:1").value(), expected);
}

TEST_P(CatalogTest, NumbersVersionsOfEachNameFromOne) {
  EXPECT_EQ(add("m", 1).model.version, 1u);
  EXPECT_EQ(add("m", 2).model.version, 2u);
  EXPECT_EQ(add("n", 3).model.version, 1u);
}

TEST_P(CatalogTest, TheSameBytesAreTheSameVersionWhereverTheyLie) {
  add("m", 1, {"production"});
  add("m", 2);

  const auto again = catalog_->add(made_scan("m", 1), "/elsewhere/m", kNoAliases, kNow + 5).value();

  EXPECT_EQ(again.model.version, 1u);
  EXPECT_EQ(again.model.uri, "/elsewhere/m");
  EXPECT_EQ(again.created_unix_ms, kNow);
  EXPECT_THAT(again.aliases, ElementsAre("production"));
  EXPECT_EQ(listed("", 10).size(), 2u);
  EXPECT_EQ(add("other", 1).model.version, 1u);  // under another name they are another model
}

TEST_P(CatalogTest, ABareNameMeansProductionOrElseTheNewest) {
  add("m", 1);
  add("m", 2);
  EXPECT_EQ(catalog_->resolve("m").value().model.version, 2u);

  ASSERT_TRUE(catalog_->set_alias({"m", "production", 1}));

  EXPECT_EQ(catalog_->resolve("m").value().model.version, 1u);
  EXPECT_EQ(catalog_->resolve("m:2").value().model.version, 2u);
}

TEST_P(CatalogTest, AnAliasMovesAndPointsAtOneVersionOnly) {
  add("m", 1, {"canary"});
  add("m", 2);
  EXPECT_EQ(catalog_->resolve("m@canary").value().model.version, 1u);

  const auto moved = catalog_->set_alias({"m", "canary", 2});

  ASSERT_TRUE(moved);
  EXPECT_THAT(moved->aliases, ElementsAre("canary"));
  EXPECT_EQ(catalog_->resolve("m@canary").value().model.version, 2u);
  EXPECT_THAT(catalog_->resolve("m:1").value().aliases, IsEmpty());
}

TEST_P(CatalogTest, WhatIsNotThereIsNotFound) {
  add("m", 1, {"canary"});
  for (const char* reference : {"n", "m:2", "m@production", "n@canary"}) {
    EXPECT_EQ(resolve_error(reference), ErrorCode::kNotFound) << reference;
  }
  EXPECT_EQ(catalog_->set_alias({"m", "x", 2}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(catalog_->set_alias({"m", "x", 0}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(catalog_->set_alias({"n", "x", 1}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(catalog_->digests({"m", 2}).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(catalog_->resolve("n").error().message, HasSubstr("'n'"));
}

TEST_P(CatalogTest, RefusesNamesThatAreNone) {
  add("m", 1);
  EXPECT_EQ(resolve_error("M"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->add(made_scan("a b", 1), "/x", kNoAliases, kNow).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      catalog_->add(made_scan("m", 2), "/x", std::vector<std::string>{"a:b"}, kNow).error().code,
      ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->set_alias({"m", "", 1}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->set_alias({"'; DROP TABLE model; --", "x", 1}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_THAT(listed("", 10), ElementsAre("m:1"));
}

TEST_P(CatalogTest, ARefusedAddLeavesNothingBehind) {
  std::vector<std::string> too_many;
  for (std::size_t i = 0; i <= kAliasesMax; ++i) too_many.push_back("a" + std::to_string(i));

  const auto refused = catalog_->add(made_scan("m", 1), "/x", too_many, kNow);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(resolve_error("m"), ErrorCode::kNotFound);
  EXPECT_EQ(resolve_error("m@a0"), ErrorCode::kNotFound);
  too_many.pop_back();
  EXPECT_TRUE(catalog_->add(made_scan("m", 1), "/x", too_many, kNow));
}

TEST_P(CatalogTest, ListsByNameAndFallingVersionInPages) {
  add("b", 1);
  add("a", 2);
  add("b", 3);
  add("a-2", 4, {"production"});
  bool more = false;

  EXPECT_THAT(listed("", 3, &more), ElementsAre("a:1", "a-2:1", "b:2"));
  EXPECT_TRUE(more);
  EXPECT_THAT(listed("b:2", 3, &more), ElementsAre("b:1"));
  EXPECT_FALSE(more);
  EXPECT_THAT(listed("", 4, &more), ElementsAre("a:1", "a-2:1", "b:2", "b:1"));
  EXPECT_FALSE(more);
  EXPECT_THAT(listed("a:5", 1), ElementsAre("a:1"));  // a page may start after what is not there
  EXPECT_THAT(listed("b:1", 3), IsEmpty());
  EXPECT_THAT(catalog_->list({"a:1", 1}).value().models.front().aliases, ElementsAre("production"));
}

TEST_P(CatalogTest, RefusesPagesThatAreNone) {
  constexpr auto kTooMany = static_cast<std::uint32_t>(wire::kListMax) + 1;
  EXPECT_EQ(catalog_->list({"", 0}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->list({"", kTooMany}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->list({"m", 10}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->list({"m@x", 10}).error().code, ErrorCode::kInvalidArgument);
}

TEST_P(CatalogTest, GivesBackTheSumsOfAVersion) {
  const ModelScan scan = made_scan("m", 7);
  const auto record = add("m", 7);

  const auto digests = catalog_->digests({"m", 1});

  ASSERT_TRUE(digests) << digests.error().to_string();
  wire::ModelDigests expected = scan.digests;
  expected.model = record.model;
  EXPECT_EQ(*digests, expected);
}

}  // namespace
}  // namespace conclave::catalog
