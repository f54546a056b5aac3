#include "key_book.hpp"

#include <gmock/gmock.h>

namespace conclave::gateway {
namespace {

using std::chrono::seconds;

wire::KeyAnswer answer(const std::string& tenant) {
  wire::KeyAnswer answer;
  answer.valid = true;
  answer.subject.tenant = tenant;
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
  EXPECT_FALSE(book.usable(sum, start));
  book.keep(sum, answer("acme"), start);

  EXPECT_EQ(book.fresh(sum, start + seconds(10))->subject.tenant, "acme");
  EXPECT_FALSE(book.fresh(sum, start + seconds(11)));
  EXPECT_TRUE(book.usable(sum, start + seconds(3600)));
  EXPECT_FALSE(book.usable(sum, start + seconds(3601)));
}

TEST(KeyBookTest, ForgetsTheOldestBeyondItsBound) {
  KeyBook book;
  const KeyBook::TimePoint now{};
  for (std::size_t i = 0; i <= KeyBook::kKeysMax; ++i) {
    book.keep(secret_sum(std::to_string(i)), answer("t"), now);
  }

  EXPECT_FALSE(book.fresh(secret_sum("0"), now));
  EXPECT_TRUE(book.fresh(secret_sum("1"), now));
  EXPECT_TRUE(book.fresh(secret_sum(std::to_string(KeyBook::kKeysMax)), now));
}

}  // namespace
}  // namespace conclave::gateway
