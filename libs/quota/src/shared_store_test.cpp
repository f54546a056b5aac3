// Several gateways that count in one Redis, and what becomes of them when it goes and comes back.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "conclave/quota/grant.hpp"
#include "testing_redis.hpp"

namespace conclave::quota {
namespace {

using quota::testing::kPatience;
using quota::testing::taken;
using quota::testing::TestRedis;
using quota::testing::Watch;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

struct Gateway {
  explicit Gateway(const TestRedis& redis, milliseconds timeout = std::chrono::seconds(20))
      : store(shared_store({redis.address(), timeout, milliseconds(30'000), watch.listener()},
                           [this] { return now.load(); })) {}

  // Far from Redis', so that nobody mixes them up.
  std::atomic<std::int64_t> now{1'000'000'000'000};
  Watch watch;
  std::shared_ptr<SharedStore> store;
};

Ask ask(const Limits& limits, std::string lease = "a", std::uint64_t tokens = 10) {
  return {"acme", std::move(lease), limits, {}, tokens};
}

TEST(SharedStoreTest, LetsInExactlyTheLimitOfWhatAllGatewaysAsk) {
  TestRedis redis;
  Gateway gateways[] = {Gateway(redis), Gateway(redis)};
  for (Gateway& gateway : gateways) ASSERT_TRUE(gateway.watch.wait(true));
  std::atomic<int> admitted{0};
  std::vector<std::thread> clients;
  for (Gateway& gateway : gateways) {
    clients.emplace_back([&admitted, &gateway] {
      for (int i = 0; i < 200; ++i) {
        const Counts counts = taken(*gateway.store, ask({.requests_per_minute = 100})).value();
        if (counts.refusal == Refusal::kNone) ++admitted;
      }
    });
  }
  for (std::thread& client : clients) client.join();

  EXPECT_EQ(admitted, 100);
  EXPECT_EQ(gateways[0].store->alone() + gateways[1].store->alone(), 0u);
}

TEST(SharedStoreTest, GoesOnAloneFromWhatRedisSaidAndComesBack) {
  TestRedis redis;
  Gateway gateway(redis);
  Gateway other(redis);
  ASSERT_TRUE(gateway.watch.wait(true) && other.watch.wait(true));
  const Limits limits{.requests_per_minute = 4};
  const std::int64_t redis_now = taken(*other.store, ask(limits))->now_ms;
  EXPECT_EQ(taken(*gateway.store, ask(limits))->requests, 2u);
  gateway.now = redis_now;

  redis.kill();
  ASSERT_TRUE(gateway.watch.wait(false));

  EXPECT_FALSE(gateway.store->up());
  EXPECT_EQ(taken(*gateway.store, ask(limits))->requests, 3u);
  EXPECT_EQ(taken(*gateway.store, ask(limits))->requests, 4u);
  EXPECT_EQ(taken(*gateway.store, ask(limits))->refusal, Refusal::kRequestsPerMinute);
  EXPECT_EQ(gateway.store->alone(), 3u);

  redis.start();
  ASSERT_TRUE(gateway.watch.wait(true));

  EXPECT_EQ(taken(*gateway.store, ask(limits))->requests, 1u);  // of an empty Redis
  EXPECT_EQ(gateway.store->alone(), 3u);
}

TEST(SharedStoreTest, SettlesInRedisWhatEndedWhileItWasAway) {
  TestRedis redis;
  Gateway gateway(redis, milliseconds(1000));
  ASSERT_TRUE(gateway.watch.wait(true));
  const Limits limits{.tokens_per_day = 1000, .concurrent_requests = 1};
  const Counts first = taken(*gateway.store, ask(limits, "a", 900)).value();
  ASSERT_EQ(first.refusal, Refusal::kNone);
  redis.hang();           // so it keeps its counts; one that is started anew would not
  gateway.store->tick();  // its renewal is the call that nobody answers
  ASSERT_TRUE(gateway.watch.wait(false));

  gateway.now = first.now_ms;
  gateway.store->settle({"acme", "a", first.window_ms, first.day, first.month, -850});
  {
    const Ask alone = ask(limits, "c", 500);
    const Counts counts = taken(*gateway.store, alone).value();
    EXPECT_EQ(counts.refusal, Refusal::kNone);
    EXPECT_EQ(gateway.store->alone(), 1u);
    Grant(gateway.store, alone, counts).used(40);
  }
  redis.go_on();
  ASSERT_TRUE(gateway.watch.wait(true));
  Gateway other(redis);
  ASSERT_TRUE(other.watch.wait(true));
  EXPECT_EQ(taken(*other.store, ask(limits, "b", 900))->refusal, Refusal::kTokensPerDay);
  gateway.store->tick();

  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  Counts after;
  do after = taken(*other.store, ask(limits, "b", 900)).value();
  while (after.refusal != Refusal::kNone && std::chrono::steady_clock::now() < deadline);
  EXPECT_EQ(after.refusal, Refusal::kNone);
  EXPECT_EQ(after.day_tokens, 50u + 900u);  // the 40 come when they are reported
}

TEST(SharedStoreTest, AnswersEveryRequestWhileRedisComesAndGoes) {
  TestRedis redis;
  Gateway gateway(redis, milliseconds(50));
  ASSERT_TRUE(gateway.watch.wait(true));
  std::atomic<bool> ends{false};
  std::atomic<std::int64_t> answered{0};
  std::thread client([&] {
    while (!ends) {
      const auto counts = taken(*gateway.store, ask({.requests_per_minute = 1'000'000'000'000}));
      if (!counts || counts->refusal != Refusal::kNone) break;
      ++answered;
      gateway.store->settle({"acme", "a", counts->window_ms, counts->day, counts->month, 0});
    }
  });
  for (int i = 0; i < 3; ++i) {
    redis.kill();
    EXPECT_TRUE(gateway.watch.wait(false));
    redis.start();
    EXPECT_TRUE(gateway.watch.wait(true));
    redis.hang();
    EXPECT_TRUE(gateway.watch.wait(false));
    redis.go_on();
    EXPECT_TRUE(gateway.watch.wait(true));
  }
  const std::int64_t before = answered;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (answered == before && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  ends = true;
  client.join();

  EXPECT_GT(answered, before);
  EXPECT_GT(gateway.store->alone(), 0u);
}

TEST(SharedStoreTest, CountsAloneWhileRedisOnlyReads) {
  TestRedis redis;
  Gateway gateway(redis);
  ASSERT_TRUE(gateway.watch.wait(true));

  redis.tell("REPLICAOF 127.0.0.1 1");  // answers a PING as before
  EXPECT_EQ(taken(*gateway.store, ask({.requests_per_minute = 1}))->refusal, Refusal::kNone);
  ASSERT_TRUE(gateway.watch.wait(false));
  EXPECT_THAT(gateway.watch.why(), HasSubstr("READONLY"));
  EXPECT_FALSE(gateway.store->up());
  EXPECT_EQ(gateway.store->alone(), 1u);

  redis.tell("REPLICAOF NO ONE");
  ASSERT_TRUE(gateway.watch.wait(true));
  EXPECT_EQ(taken(*gateway.store, ask({.requests_per_minute = 1}))->refusal, Refusal::kNone);
  EXPECT_EQ(gateway.store->alone(), 1u);
}

TEST(SharedStoreTest, ShowsItsPassword) {
  TestRedis redis("open sesame");
  Gateway gateway(redis);
  ASSERT_TRUE(gateway.watch.wait(true));
  EXPECT_EQ(taken(*gateway.store, ask({.requests_per_minute = 1}))->requests, 1u);
  EXPECT_EQ(gateway.store->alone(), 0u);

  RedisAddress wrong = redis.address();
  wrong.password = "let me in";
  Watch watch;
  const auto refused = shared_store(
      {wrong, milliseconds(50), milliseconds(30'000), watch.listener()}, [] { return 1; });
  ASSERT_TRUE(watch.wait(false));
  EXPECT_THAT(watch.why(), HasSubstr("WRONGPASS"));
  EXPECT_EQ(taken(*refused, ask({.requests_per_minute = 1}))->refusal, Refusal::kNone);
}

TEST(SharedStoreTest, CountsAloneWhereThereIsNoRedis) {
  Watch watch;
  const auto store = shared_store({{.host = "127.0.0.1", .port = quota::testing::free_port()},
                                   milliseconds(50),
                                   milliseconds(30'000),
                                   watch.listener()},
                                  [] { return 1; });

  EXPECT_EQ(taken(*store, ask({.requests_per_minute = 1}))->refusal, Refusal::kNone);
  EXPECT_EQ(taken(*store, ask({.requests_per_minute = 1}))->refusal, Refusal::kRequestsPerMinute);
  EXPECT_TRUE(watch.wait(false));
}

}  // namespace
}  // namespace conclave::quota
