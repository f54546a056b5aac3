#include "key_book.hpp"

#include <gmock/gmock.h>

namespace conclave::gateway {
namespace {

using std::chrono::seconds;

constexpr KeyBook::WallTime kWall{std::chrono::milliseconds(1'700'000'000'000)};

wire::KeyAnswer answer(const std::string& tenant) {
  wire::KeyAnswer answer;
  answer.valid = true;
  answer.subject.tenant = tenant;
  answer.subject.key_id = "key-1";
  return answer;
}

TEST(BearerTokenTest, ReadsTheTokenOfTheOneScheme) {
  EXPECT_EQ(bearer_token("Bearer sk-1"), "sk-1");
  EXPECT_EQ(bearer_token("bearer  sk-1"), "sk-1");
  EXPECT_EQ(bearer_token("Basic sk-1"), "");
  EXPECT_EQ(bearer_token("Bearer "), "");
  EXPECT_EQ(bearer_token("Bearer"), "");
  EXPECT_EQ(bearer_token(""), "");
}

TEST(SecretSumTest, IsTheSha256OfTheSecret) {
  const wire::Sha256 sum = secret_sum("abc");
  EXPECT_EQ(static_cast<int>(sum[0]), 0xba);
  EXPECT_EQ(static_cast<int>(sum[31]), 0xad);
}

TEST(KeyBookTest, AsksAgainAfterAWhileAndHelpsOutForLonger) {
  KeyBook book;
  const KeyBook::TimePoint start{};
  const wire::Sha256 sum = secret_sum("a");
  EXPECT_FALSE(book.usable(sum, start, kWall));
  book.keep(sum, answer("acme"), start);

  EXPECT_EQ(book.fresh(sum, start + seconds(10), kWall)->subject.tenant, "acme");
  EXPECT_FALSE(book.fresh(sum, start + seconds(11), kWall));
  EXPECT_TRUE(book.certain(sum, start + seconds(3600), kWall));
  EXPECT_TRUE(book.usable(sum, start + seconds(3600), kWall));
  EXPECT_FALSE(book.usable(sum, start + seconds(3601), kWall));
}

TEST(KeyBookTest, WhatIsDoubtedIsAskedAgainAndStillHelpsOut) {
  KeyBook book;
  const KeyBook::TimePoint now{};
  const wire::Sha256 sum = secret_sum("a");
  book.keep(sum, answer("acme"), now);
  book.keep(secret_sum("guess"), wire::KeyAnswer{}, now);

  book.doubt();

  EXPECT_FALSE(book.fresh(sum, now, kWall));
  EXPECT_FALSE(book.certain(sum, now, kWall));
  EXPECT_FALSE(book.fresh(secret_sum("guess"), now, kWall));
  EXPECT_TRUE(book.usable(sum, now, kWall));
  book.keep(sum, answer("acme"), now);
  EXPECT_TRUE(book.fresh(sum, now, kWall));
}

TEST(KeyBookTest, ForgetsTheOldestBeyondItsBound) {
  KeyBook book;
  const KeyBook::TimePoint now{};
  for (std::size_t i = 0; i <= KeyBook::kKeysMax; ++i) {
    book.keep(secret_sum(std::to_string(i)), answer("t"), now);
  }

  EXPECT_FALSE(book.fresh(secret_sum("0"), now, kWall));
  EXPECT_TRUE(book.fresh(secret_sum("1"), now, kWall));
  EXPECT_TRUE(book.fresh(secret_sum(std::to_string(KeyBook::kKeysMax)), now, kWall));
}

TEST(KeyBookTest, GuessesPushOutNoKey) {
  KeyBook book;
  const KeyBook::TimePoint now{};
  book.keep(secret_sum("mine"), answer("acme"), now);
  for (std::size_t i = 0; i < KeyBook::kKeysMax + 10; ++i) {
    book.keep(secret_sum(std::to_string(i)), wire::KeyAnswer{}, now);
  }

  EXPECT_TRUE(book.fresh(secret_sum("mine"), now, kWall));
  EXPECT_FALSE(book.fresh(secret_sum("0"), now, kWall));
  EXPECT_FALSE(book.fresh(secret_sum(std::to_string(KeyBook::kKeysMax + 9)), now, kWall)->valid);
}

TEST(KeyBookTest, AKeyThatWasMadeIsNoGuessAnyLonger) {
  KeyBook book;
  const KeyBook::TimePoint now{};
  book.keep(secret_sum("a"), wire::KeyAnswer{}, now);
  book.keep(secret_sum("a"), answer("acme"), now + seconds(1));

  EXPECT_TRUE(book.fresh(secret_sum("a"), now + seconds(1), kWall)->valid);
}

TEST(KeyBookTest, AnExpiredKeyIsAskedForAgain) {
  KeyBook book;
  const KeyBook::TimePoint now{};
  wire::KeyAnswer short_lived = answer("acme");
  const auto expires = kWall + seconds(5);
  short_lived.expires_unix_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(expires.time_since_epoch()).count();
  book.keep(secret_sum("a"), short_lived, now);

  EXPECT_TRUE(book.fresh(secret_sum("a"), now, expires - std::chrono::milliseconds(1)));
  EXPECT_FALSE(book.fresh(secret_sum("a"), now, expires));
  EXPECT_FALSE(book.usable(secret_sum("a"), now, expires));
}

}  // namespace
}  // namespace conclave::gateway
