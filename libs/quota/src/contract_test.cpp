// What every store promises, held by the one in memory and by the one in a real Redis; and that the
// two decide alike, request by request.
#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <optional>
#include <random>

#include "quota_book.hpp"
#include "redis_scripts.hpp"
#include "redis_store.hpp"
#include "testing_redis.hpp"

namespace conclave::quota {
namespace {

using quota::testing::shared_redis;
using quota::testing::taken;
using quota::testing::Watch;
using std::chrono::milliseconds;

// Of this program: each test has tenants of its own.
std::string new_tenant() {
  static std::atomic<int> made{0};
  return "tenant-" + std::to_string(++made);
}

RedisOptions options(Watch& watch, milliseconds lease = milliseconds(30'000)) {
  // The machine may be loaded; what a short timeout does is another test's.
  return {shared_redis().address(), std::chrono::seconds(20), lease, watch.listener()};
}

std::shared_ptr<RedisStore> redis_store(milliseconds lease = milliseconds(30'000)) {
  Watch watch;
  auto store = std::make_shared<RedisStore>(options(watch, lease));
  EXPECT_TRUE(watch.wait(true));
  return store;
}

class StoreContract : public ::testing::TestWithParam<const char*> {
 protected:
  Counts take(const Limits& limits, std::uint64_t tokens = 10, const std::string& lease = "a") {
    return take({tenant_, lease, limits, {}, tokens});
  }
  Counts take(const Ask& ask) {
    const auto counts = taken(*store_, ask);
    EXPECT_TRUE(counts) << counts.error().to_string();
    return counts.value_or(Counts{});
  }
  void settle(const Counts& counts, std::int64_t tokens, const std::string& lease = "a") {
    store_->settle({tenant_, lease, counts.window_ms, counts.day, counts.month, tokens});
  }

  const std::string tenant_ = new_tenant();
  std::shared_ptr<Store> store_ = std::string(GetParam()) == "memory"
                                      ? memory_store([] { return 1'760'000'000'000; })
                                      : std::static_pointer_cast<Store>(redis_store());
};

TEST_P(StoreContract, LetsInSoManyRequestsAMinute) {
  const Limits limits{.requests_per_minute = 3};
  for (std::uint64_t i = 1; i <= 3; ++i) {
    const Counts counts = take(limits);
    EXPECT_EQ(counts.refusal, Refusal::kNone);
    EXPECT_EQ(counts.requests, i);
  }

  const Counts refused = take(limits);

  EXPECT_EQ(refused.refusal, Refusal::kRequestsPerMinute);
  EXPECT_EQ(refused.requests, 3u);
  EXPECT_EQ(refused.tokens, 30u);  // what is refused counts nowhere
  EXPECT_GT(retry_after_ms(refused), 0);
  EXPECT_LE(retry_after_ms(refused), kWindowMs);
}

TEST_P(StoreContract, CountsTheTokensThatWereUsedInTheEnd) {
  const Limits limits{.tokens_per_minute = 100};
  const Counts first = take(limits, 80);
  EXPECT_EQ(take(limits, 21).refusal, Refusal::kTokensPerMinute);

  settle(first, -60);

  EXPECT_EQ(take(limits, 80).tokens, 100u);
  settle(first, 5);  // more than was asked for
  EXPECT_EQ(take(limits, 1).tokens, 105u);
}

TEST_P(StoreContract, LetsInSoManyTokensADayAndAMonth) {
  EXPECT_EQ(take({.tokens_per_day = 20}, 20).refusal, Refusal::kNone);
  EXPECT_EQ(take({.tokens_per_day = 20}, 1).refusal, Refusal::kTokensPerDay);
  EXPECT_EQ(take({.tokens_per_month = 20}, 1).refusal, Refusal::kTokensPerMonth);
  const Counts more = take({.tokens_per_day = 30, .tokens_per_month = 30}, 10);
  EXPECT_EQ(more.refusal, Refusal::kNone);
  EXPECT_EQ(more.day_tokens, 30u);
  EXPECT_EQ(more.month_tokens, 30u);

  settle(more, -10);

  EXPECT_EQ(take({.tokens_per_day = 30, .tokens_per_month = 30}, 10).refusal, Refusal::kNone);
}

TEST_P(StoreContract, BeginsFromWhatTheRegistryHasCounted) {
  const std::int32_t today = take({}, 10).day;
  Ask ask{tenant_, "a", {.tokens_per_day = 100, .tokens_per_month = 1000}, {today, 95, 500}, 5};

  const Counts counts = take(ask);
  EXPECT_EQ(counts.day_tokens, 100u);
  EXPECT_EQ(counts.month_tokens, 505u);

  EXPECT_EQ(take(ask).refusal, Refusal::kTokensPerDay);
  // It is behind, so it never lowers what was counted; and another day's is nothing of today's.
  ask.tokens = 0;
  ask.reported = {today, 1, 1};
  EXPECT_EQ(take(ask).day_tokens, 100u);
  ask.reported = {today + 1, 1'000'000, 0};
  EXPECT_EQ(take(ask).day_tokens, 100u);
}

TEST_P(StoreContract, LetsSoManyRequestsBeOpen) {
  const Limits limits{.concurrent_requests = 2};
  const Counts first = take(limits, 10, "a");
  EXPECT_EQ(take(limits, 10, "b").open, 2u);
  EXPECT_EQ(take(limits, 10, "c").refusal, Refusal::kConcurrentRequests);

  settle(first, 0, "a");

  EXPECT_EQ(take(limits, 10, "d").open, 2u);
  EXPECT_EQ(take(limits, 10, "e").refusal, Refusal::kConcurrentRequests);
}

TEST_P(StoreContract, KeepsTenantsApart) {
  (void)take({.requests_per_minute = 1});

  const Counts other = take({new_tenant(), "a", {.requests_per_minute = 1}, {}, 1});

  EXPECT_EQ(other.refusal, Refusal::kNone);
}

TEST_P(StoreContract, TakesTheLargestNumbers) {
  const Limits none_is_met{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX};
  Ask ask{tenant_, "a", none_is_met, {INT32_MAX, UINT64_MAX, UINT64_MAX}, 1};
  EXPECT_EQ(take(ask).refusal, Refusal::kNone);
  ask.reported = {INT32_MIN, UINT64_MAX, UINT64_MAX};
  EXPECT_EQ(take(ask).tokens, 2u);
  ask.tokens = UINT64_MAX;
  ask.limits = {.tokens_per_minute = 100};
  EXPECT_EQ(take(ask).refusal, Refusal::kTokensPerMinute);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContract, ::testing::Values("memory", "redis"),
                         [](const auto& store) { return std::string(store.param); });

TEST(RedisStoreTest, DecidesAsTheBookDoes) {
  const auto redis = redis_store();
  QuotaBook book;
  std::mt19937 random(7);
  const auto below = [&random](unsigned most) { return random() % most; };
  const std::string tenants[] = {new_tenant(), new_tenant()};
  std::vector<std::pair<Settlement, bool>> open;
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    if (!open.empty() && below(3) == 0) {
      std::swap(open[below(static_cast<unsigned>(open.size()))], open.back());
      redis->settle(open.back().first);
      book.settle(open.back().first);
      open.pop_back();
      continue;
    }
    const auto maybe = [&](unsigned limit) { return below(3) == 0 ? 0 : limit; };
    const Ask ask{tenants[below(2)],
                  "r" + std::to_string(i),
                  {maybe(900), maybe(30'000), maybe(60'000), maybe(80'000), maybe(20)},
                  {static_cast<std::int32_t>(below(3)), below(100), below(100)},
                  below(200)};

    const auto counts = taken(*redis, ask);

    ASSERT_TRUE(counts) << counts.error().to_string();
    const Counts expected = book.take(ask, counts->now_ms);
    ASSERT_EQ(*counts, expected) << "request " << i << ", refused for "
                                 << static_cast<int>(counts->refusal) << " and "
                                 << static_cast<int>(expected.refusal);
    if (counts->refusal != Refusal::kNone) {
      ++refused;
      continue;
    }
    open.push_back({{ask.tenant, ask.lease, counts->window_ms, counts->day, counts->month,
                     static_cast<std::int64_t>(below(300)) - 150},
                    true});
  }
  EXPECT_GT(refused, 100);
  EXPECT_LT(refused, 1900);
}

// Redis' own clock says how much time has passed.
// What `alive` hears of a place that `dead` holds and renews for `time`, and then leaves; nothing
// if this machine stood still for so long that the lease may have lapsed meanwhile.
std::optional<Counts> outlive(RedisStore& dead, RedisStore& alive, milliseconds time,
                              std::int64_t& last) {
  const Ask ask{new_tenant(), "dead/1", {.concurrent_requests = 1}, {}, 1};
  EXPECT_EQ(taken(dead, ask)->refusal, Refusal::kNone);
  Ask mine = ask;
  mine.lease = "alive/1";
  const std::vector<Leases> leases{{ask.tenant, {ask.lease}}};
  const std::int64_t begin = last = taken(alive, mine)->now_ms;
  while (last - begin < time.count()) {
    dead.renew(leases);
    const Counts counts = taken(alive, mine).value();
    if (counts.now_ms - last > 250) return std::nullopt;
    last = counts.now_ms;
    EXPECT_EQ(counts.refusal, Refusal::kConcurrentRequests) << last - begin;
  }
  Counts counts;
  do counts = taken(alive, mine).value();
  while (counts.refusal != Refusal::kNone && counts.now_ms - last < 30'000);
  return counts;
}

TEST(RedisStoreTest, GivesUpWhatAGatewayThatDiedHadOpen) {
  const auto dead = redis_store(milliseconds(300));
  const auto alive = redis_store();
  std::optional<Counts> counts;
  std::int64_t last = 0;
  // As long as it is renewed it is open, well past its first lease.
  for (int i = 0; i < 20 && !counts; ++i) counts = outlive(*dead, *alive, milliseconds(900), last);

  ASSERT_TRUE(counts) << "this machine stands still all the time";
  EXPECT_EQ(counts->refusal, Refusal::kNone);
  EXPECT_EQ(counts->open, 1u);
  EXPECT_GE(counts->now_ms - last, 290);
}

RedisLink::Numbers call(RedisLink& link, std::vector<std::string> command) {
  std::promise<base::Result<RedisLink::Numbers>> promise;
  link.call(std::move(command),
            [&](base::Result<RedisLink::Numbers> reply) { promise.set_value(std::move(reply)); });
  const auto reply = promise.get_future().get();
  EXPECT_TRUE(reply) << reply.error().to_string();
  return reply.value_or(RedisLink::Numbers{});
}

TEST(RedisStoreTest, LeavesNothingInRedisForEver) {
  Watch watch;
  RedisLink link(options(watch));
  ASSERT_TRUE(watch.wait(true));
  const auto store = redis_store();
  for (const bool by_month : {false, true}) {
    const std::string tenant = new_tenant();
    const Ask ask{
        tenant, "a", {.tokens_per_month = by_month ? 100u : 0u, .concurrent_requests = 4}, {}, 10};
    const Counts counts = taken(*store, ask).value();
    store->settle({tenant, "b", counts.window_ms, counts.day, counts.month, -3});
    (void)taken(*store, ask);

    const std::int64_t left = call(link, {"PTTL", "conclave:{" + tenant + "}:quota"}).at(0);
    EXPECT_GT(left, by_month ? 31 * kDayMs : kWindowMs);
    EXPECT_LE(left, by_month ? 32 * kDayMs : 2 * kWindowMs);
    const std::int64_t open = call(link, {"PTTL", "conclave:{" + tenant + "}:open"}).at(0);
    EXPECT_GT(open, 0);
    EXPECT_LE(open, 30'000);
  }
}

TEST(RedisStoreTest, KnowsTheMonthsThatWeKnow) {
  Watch watch;
  RedisLink link(options(watch));
  ASSERT_TRUE(watch.wait(true));
  const std::string script = kMonthOf + R"lua(
    local months = {}
    for i = 0, 59 do months[i + 1] = month_of(tonumber(ARGV[1]) + i) end
    return months)lua";
  // 1970 to 2134, the odd century of 2100 among them.
  for (std::int64_t day = 0; day < 60'000; day += 60) {
    const auto months = call(link, {"EVAL", script, "0", std::to_string(day)});
    ASSERT_EQ(months.size(), 60u);
    for (std::int64_t i = 0; i < 60; ++i) {
      ASSERT_EQ(months[static_cast<std::size_t>(i)], month_of(day + i)) << day + i;
    }
  }
}

}  // namespace
}  // namespace conclave::quota
