#include "operations.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <functional>

#include "conclave/catalog/open.hpp"
#include "conclave/testkit/test_postgres.hpp"

namespace conclave::registry {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;

// True as soon as it holds; the threads of the operations beat a thousand times a second here.
bool eventually(const std::function<bool()>& holds) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

struct OperationsTest : testing::Test {
  std::atomic<std::int64_t> now_ms{1'760'000'000'000};
  std::unique_ptr<catalog::Catalog> catalog = catalog::open_catalog(":memory:").value();

  std::unique_ptr<Operations> registry(const std::string& owner, catalog::Catalog* in = nullptr) {
    return std::make_unique<Operations>(
        in != nullptr ? *in : *catalog, owner,
        [this] { return std::chrono::system_clock::time_point(std::chrono::milliseconds(now_ms)); },
        telemetry::Logger(), std::chrono::milliseconds(1));
  }
  static std::string state(const Operations& registry, const std::string& id) {
    const auto found = registry.find(id);
    return found ? std::string(found->at("state").as_string()) : found.error().to_string();
  }
};

TEST_F(OperationsTest, EveryRegistrySeesHowFarItIsAndWhatCameOfIt) {
  const auto first = registry("registry-1/1");
  const auto second = registry("registry-2/1");
  const std::string id = first->begin("register", "m", "{}")->operation.id;
  const std::string other = first->begin("verify", "m:1", "")->operation.id;

  first->progress(id, 40);
  EXPECT_TRUE(eventually([&] { return second->find(id)->at("percent").to_number<int>() == 40; }));
  EXPECT_EQ(state(*second, id), "running");
  first->end(id, json::value{{"version", 3}});
  first->end(other, fail(ErrorCode::kCorruptData, "no model"));

  EXPECT_EQ(second->find(id)->at("state").as_string(), "done");
  EXPECT_EQ(second->find(id)->at("percent").to_number<int>(), 100);
  EXPECT_EQ(second->find(id)->at("result").at("version").to_number<int>(), 3);
  EXPECT_EQ(second->find(other)->at("error").at("code").as_string(), "corrupt_data");
  EXPECT_EQ(second->find(other)->at("error").at("message").as_string(), "no model");
  EXPECT_EQ(second->list(10)->size(), 2u);
  EXPECT_EQ(second->find("op-nobody").error().code, ErrorCode::kNotFound);
}

TEST_F(OperationsTest, OneThatIsUnderWayIsNotBegunTwice) {
  const auto first = registry("registry-1/1");
  const auto second = registry("registry-2/1");
  const auto begun = first->begin("register", "m", "{}");

  const auto again = second->begin("register", "m", "{}");
  const auto other = second->begin("register", "m", R"({"draft":true})");

  EXPECT_TRUE(begun->is_new);
  EXPECT_FALSE(again->is_new);
  EXPECT_EQ(again->operation.id, begun->operation.id);
  EXPECT_TRUE(other->is_new);
}

TEST_F(OperationsTest, WhatARegistryLeavesBehindIsInterruptedAndMayBeBegunAgain) {
  auto first = registry("registry-1/1");
  const auto second = registry("registry-2/1");
  const std::string id = first->begin("register", "m", "{}")->operation.id;
  now_ms += catalog::Operations::kSilenceMs;
  EXPECT_TRUE(eventually([&] {  // it beats
    return catalog->find_operation(id, now_ms)->beat_unix_ms == now_ms;
  }));
  first.reset();  // without an end

  now_ms += catalog::Operations::kSilenceMs;
  EXPECT_EQ(state(*second, id), "running");
  now_ms += 1;

  EXPECT_EQ(state(*second, id), "failed");
  EXPECT_EQ(second->find(id)->at("error").at("code").as_string(), "interrupted");
  const auto again = second->begin("register", "m", "{}");
  EXPECT_TRUE(again->is_new);
  EXPECT_NE(again->operation.id, id);
}

TEST_F(OperationsTest, AnEndThatTheDatabaseDoesNotHearIsWrittenLater) {
  testkit::TestPostgres server;
  catalog::CatalogOptions options;
  options.attempts_max = 1;
  const auto store = catalog::open_catalog(server.url(), options).value();
  const auto first = registry("registry-1/1", store.get());
  const auto second = registry("registry-2/1", store.get());
  const std::string id = first->begin("verify", "m:1", "")->operation.id;
  server.stop();

  first->end(id, json::value{{"ok", true}});

  EXPECT_EQ(state(*first, id), "done");  // it knows, and nobody else does
  EXPECT_EQ(second->find(id).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(first->begin("verify", "m:2", "").error().code, ErrorCode::kUnavailable);
  server.start();
  EXPECT_TRUE(eventually([&] { return state(*second, id) == "done"; }));
  EXPECT_TRUE(second->find(id)->at("result").at("ok").as_bool());
}

}  // namespace
}  // namespace conclave::registry
