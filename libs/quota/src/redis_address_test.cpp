#include <gmock/gmock.h>

#include "conclave/quota/redis.hpp"

namespace conclave::quota {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(RedisAddressTest, ReadsWhatPeopleWrite) {
  EXPECT_EQ(parse_redis_url("redis://redis").value(), (RedisAddress{.host = "redis"}));
  EXPECT_EQ(parse_redis_url("redis://redis:7000/").value(),
            (RedisAddress{.host = "redis", .port = 7000}));
  EXPECT_EQ(parse_redis_url("redis://:p%40ss%3a@10.0.0.1:6380/3").value(),
            (RedisAddress{
                .host = "10.0.0.1", .port = 6380, .user = {}, .password = "p@ss:", .database = 3}));
  EXPECT_EQ(parse_redis_url("redis://me:p@[::1]:6380").value(),
            (RedisAddress{.host = "::1", .port = 6380, .user = "me", .password = "p"}));
}

TEST(RedisAddressTest, RefusesTheRestAndTellsNoPassword) {
  for (const char* url :
       {"", "localhost:6379", "http://:hunter2@x", "rediss://:hunter2@x", "redis://",
        "redis://:hunter2@", "redis://hunter2@x", "redis://:hunter2@x:0",
        "redis://:hunter2@x:70000", "redis://:hunter2@x:", "redis://:hunter2@x:1x",
        "redis://:hunter2@x/a", "redis://:hunter2@x/65536", "redis://:hunter2%@x",
        "redis://:hunter2%4@x", "redis://:hunter2%zz@x", "redis://me:@x", "redis://:hunter2@[::1",
        "redis://[::1]x"}) {
    const auto address = parse_redis_url(url);
    ASSERT_FALSE(address) << url;
    EXPECT_EQ(address.error().code, base::ErrorCode::kInvalidArgument) << url;
    EXPECT_THAT(address.error().message, Not(HasSubstr("hunter2"))) << url;
  }
  EXPECT_FALSE(parse_redis_url("redis://" + std::string(2000, 'x')));
}

}  // namespace
}  // namespace conclave::quota
