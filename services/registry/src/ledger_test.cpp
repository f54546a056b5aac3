#include "ledger.hpp"

#include <gmock/gmock.h>

#include "conclave/catalog/access.hpp"
#include "conclave/catalog/open.hpp"
#include "conclave/testkit/test_postgres.hpp"

namespace conclave::registry {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

constexpr std::chrono::milliseconds kStart{1'760'000'000'000};

struct LedgerTest : testing::Test {
  std::chrono::system_clock::time_point now{kStart};
  std::unique_ptr<catalog::Catalog> catalog = catalog::open_catalog(":memory:").value();
  Ledger ledger{*catalog, [this] { return now; }};

  std::string make_key(catalog::Catalog& in, std::int64_t expires_unix_ms = 0) {
    EXPECT_TRUE(in.create_tenant("acme", "", {}).has_value());
    const std::string secret = catalog::make_secret();
    EXPECT_TRUE(in.create_key({.tenant = "acme",
                               .name = "ci",
                               .role = catalog::Role::kRead,
                               .models = {"chat"},
                               .expires_unix_ms = expires_unix_ms},
                              secret, {})
                    .has_value());
    return secret;
  }
};

TEST_F(LedgerTest, KnowsWhoseKeyItIs) {
  const std::string secret = make_key(*catalog);

  const auto answer = ledger.key({catalog::secret_hash(secret)});

  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->valid);
  EXPECT_EQ(answer->subject.tenant, "acme");
  EXPECT_EQ(answer->subject.role, wire::AccessRole::kRead);
  EXPECT_EQ(answer->models, std::vector<std::string>{"chat"});
  EXPECT_FALSE(answer->stale);
}

TEST_F(LedgerTest, SaysWhyAKeyOpensNothing) {
  EXPECT_THAT(ledger.key({catalog::secret_hash("no such secret at all")})->reason,
              HasSubstr("no such key"));
  const std::string secret = make_key(*catalog, kStart.count() + 1000);
  EXPECT_TRUE(ledger.key({catalog::secret_hash(secret)})->valid);
  now += std::chrono::seconds(2);

  const auto answer = ledger.key({catalog::secret_hash(secret)});

  EXPECT_FALSE(answer->valid);
  EXPECT_THAT(answer->reason, HasSubstr("expired"));
}

TEST_F(LedgerTest, SaysWhatTheTenantMayUseAndHasUsed) {
  const std::string secret = make_key(*catalog);
  const wire::KeyQuestion question{catalog::secret_hash(secret)};
  EXPECT_EQ(ledger.key(question)->quota, wire::TenantQuota{});
  // 2025-10-09; the month began eight days before.
  const std::int32_t today = 20'370;
  ASSERT_TRUE(catalog
                  ->put_quota({.tenant = "acme",
                               .requests_per_minute = 60,
                               .tokens_per_day = 1000,
                               .concurrent_requests = 4},
                              {})
                  .has_value());
  const auto row = [](std::int32_t day, std::uint64_t tokens) {
    return wire::UsageRow{.tenant = "acme",
                          .key_id = "k",
                          .model = "chat",
                          .day = day,
                          .requests = 1,
                          .prompt_tokens = tokens,
                          .completion_tokens = 1};
  };
  ASSERT_TRUE(ledger.usage({"a", {row(today, 10), row(today - 8, 20), row(today - 9, 40)}}));

  EXPECT_EQ(ledger.key(question)->quota, (wire::TenantQuota{.requests_per_minute = 60,
                                                            .tokens_per_day = 1000,
                                                            .concurrent_requests = 4,
                                                            .day = today,
                                                            .day_tokens = 11,
                                                            .month_tokens = 32}));

  // Adding up is not done for every question.
  ASSERT_TRUE(ledger.usage({"b", {row(today, 100)}}));
  EXPECT_EQ(ledger.key(question)->quota.day_tokens, 11u);
  now += Ledger::kUsedFresh;
  EXPECT_EQ(ledger.key(question)->quota.day_tokens, 112u);
}

TEST_F(LedgerTest, CountsABatchOnce) {
  const wire::UsageBatch batch{.id = "gateway-1/5/1",
                               .rows = {{.tenant = "acme",
                                         .key_id = "k",
                                         .model = "chat",
                                         .day = 20'000,
                                         .requests = 2,
                                         .prompt_tokens = 30,
                                         .completion_tokens = 4}}};

  EXPECT_TRUE(ledger.usage(batch)->fresh);
  EXPECT_FALSE(ledger.usage(batch)->fresh);

  const auto sums = catalog->usage({.first_day = 20'000, .last_day = 20'000});
  ASSERT_EQ(sums->size(), 1u);
  EXPECT_EQ(sums->front().counts.prompt_tokens, 30u);
}

TEST_F(LedgerTest, LendsTheLeadToOneAtATime) {
  const auto first = ledger.lease({"scheduler", "a/1", 1000});
  EXPECT_EQ(*first, (wire::LeaseReply{"a/1", first->token, 1000}));

  const auto second = ledger.lease({"scheduler", "b/1", 1000});
  EXPECT_EQ(second->holder, "a/1");
  EXPECT_EQ(second->token, first->token);

  now += std::chrono::milliseconds(1500);
  const auto third = ledger.lease({"scheduler", "b/1", 1000});
  EXPECT_EQ(third->holder, "b/1");
  EXPECT_GT(third->token, first->token);

  EXPECT_EQ(ledger.lease({"scheduler", "a/1", 0})->holder, "b/1");  // not its own to release
  EXPECT_EQ(ledger.lease({"scheduler", "b/1", 0})->holder, "");
  const auto fourth = ledger.lease({"scheduler", "a/1", 1000});
  EXPECT_EQ(fourth->holder, "a/1");
  EXPECT_GT(fourth->token, third->token);
}

TEST_F(LedgerTest, KeepsAStateForTheHolderOfTheLease) {
  const auto lease = ledger.lease({"scheduler", "a/1", 1000});
  EXPECT_EQ(*ledger.state({"scheduler", 0, std::nullopt, 0}), (wire::StateReply{0, ""}));

  EXPECT_EQ(*ledger.state({"scheduler", lease->token, "pins", 0}), (wire::StateReply{1, ""}));
  EXPECT_EQ(*ledger.state({"scheduler", 0, std::nullopt, 0}), (wire::StateReply{1, "pins"}));
  EXPECT_EQ(ledger.state({"scheduler", lease->token + 1, "others", 1}).error().code,
            base::ErrorCode::kFailedPrecondition);
}

TEST_F(LedgerTest, RemembersWhatANodeSays) {
  EXPECT_TRUE(ledger.event({"expert.refused", "demo:1", R"({"layer":3})"}, "worker-1").has_value());

  const auto page = catalog->audit({});
  ASSERT_EQ(page->records.size(), 1u);
  EXPECT_EQ(page->records[0].actor, "node:worker-1");
  EXPECT_EQ(page->records[0].after, R"({"layer":3})");
}

TEST_F(LedgerTest, ANodeThatSaysTooMuchIsNotHeard) {
  const auto say = [this](const char* node) {
    const auto said = ledger.event({"expert.refused", "demo:1", "{}"}, node);
    return said ? ErrorCode{} : said.error().code;
  };
  for (int i = 0; i < static_cast<int>(Ledger::kEventsMax); ++i) {
    ASSERT_EQ(say("worker-1"), ErrorCode{});
  }

  EXPECT_EQ(say("worker-1"), ErrorCode::kOverloaded);
  EXPECT_EQ(say("worker-2"), ErrorCode{});  // another one is
  now += 2 * Ledger::kEventEvery;
  EXPECT_EQ(say("worker-1"), ErrorCode{});
  EXPECT_EQ(say("worker-1"), ErrorCode{});
  EXPECT_EQ(say("worker-1"), ErrorCode::kOverloaded);
}

TEST_F(LedgerTest, AnswersFromItsSnapshotWhilePostgresIsAway) {
  testkit::TestPostgres server;
  catalog::CatalogOptions options;
  options.attempts_max = 2;
  const auto store = catalog::open_catalog(server.url(), options).value();
  Ledger on_postgres(*store, [this] { return now; });
  const std::string secret = make_key(*store);
  const std::string guessed = "a secret that nobody has, asked for before";
  EXPECT_FALSE(on_postgres.key({catalog::secret_hash(secret)})->stale);
  EXPECT_FALSE(on_postgres.key({catalog::secret_hash(guessed)})->valid);
  server.stop();

  const auto known = on_postgres.key({catalog::secret_hash(secret)});
  const auto unknown = on_postgres.key({catalog::secret_hash("another secret, not asked yet")});
  const auto guess = on_postgres.key({catalog::secret_hash(guessed)});
  const auto refused = on_postgres.usage({.id = "b", .rows = {}});

  ASSERT_TRUE(known.has_value());
  EXPECT_TRUE(known->valid);
  EXPECT_TRUE(known->stale);
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnavailable);
  ASSERT_FALSE(guess.has_value());  // guesses take no room in the snapshot
  EXPECT_EQ(guess.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::registry
