#include "usage_book.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

namespace conclave::gateway {
namespace {

namespace fs = std::filesystem;
using ::testing::IsNull;
using ::testing::SizeIs;

wire::UsageRow row(const std::string& key, std::int32_t day, std::uint64_t tokens) {
  return {.tenant = "acme",
          .key_id = key,
          .model = "demo",
          .day = day,
          .requests = 1,
          .prompt_tokens = tokens,
          .completion_tokens = 2};
}

struct UsageBookTest : ::testing::Test {
  const fs::path file =
      fs::path(::testing::TempDir()) / ("conclave-usage-book." + std::to_string(::getpid()));
  const fs::path damaged = file.string() + ".damaged";
  ~UsageBookTest() override {
    fs::remove(file);
    fs::remove(damaged);
  }
};

TEST_F(UsageBookTest, SumsByKeyModelAndDay) {
  UsageBook book("gateway/1");
  book.add(row("a", 1, 10));
  book.add(row("a", 1, 20));
  book.add(row("a", 2, 40));
  book.add(row("b", 1, 80));

  const wire::UsageBatch* batch = book.batch();

  ASSERT_THAT(batch->rows, SizeIs(3));
  EXPECT_EQ(batch->rows[0].prompt_tokens, 30u);
  EXPECT_EQ(batch->rows[0].requests, 2u);
}

TEST_F(UsageBookTest, ABatchStaysAsItIsUntilItIsAcknowledged) {
  UsageBook book("gateway/1");
  EXPECT_THAT(book.batch(), IsNull());
  book.add(row("a", 1, 10));
  const wire::UsageBatch first = *book.batch();
  book.add(row("a", 1, 20));

  EXPECT_EQ(*book.batch(), first);

  book.acknowledged();
  const wire::UsageBatch second = *book.batch();
  EXPECT_NE(second.id, first.id);
  EXPECT_EQ(second.rows[0].prompt_tokens, 20u);
  book.acknowledged();
  EXPECT_TRUE(book.is_empty());
}

TEST_F(UsageBookTest, StaysBoundedAndKeepsItsSums) {
  UsageBook book("gateway/1");
  for (std::size_t i = 0; i < wire::kUsageRowsMax + 500; ++i) {
    book.add(row("key-" + std::to_string(i), 1, 1));
  }

  const wire::UsageBatch* batch = book.batch();

  EXPECT_THAT(batch->rows, SizeIs(wire::kUsageRowsMax));
  std::uint64_t tokens = 0;
  for (const wire::UsageRow& sum : batch->rows) tokens += sum.prompt_tokens;
  EXPECT_EQ(tokens, wire::kUsageRowsMax + 500);
}

TEST_F(UsageBookTest, StaysBoundedOverManyDays) {
  UsageBook book("gateway/1");
  const std::size_t rows = wire::kUsageRowsMax + 500;
  for (std::size_t i = 0; i < rows; ++i) {
    book.add(row("key-" + std::to_string(i), static_cast<std::int32_t>(i % 7), 1));
  }

  const wire::UsageBatch* batch = book.batch();

  EXPECT_THAT(batch->rows, SizeIs(wire::kUsageRowsMax));
  std::uint64_t tokens = 0;
  std::size_t nobody = 0;
  for (const wire::UsageRow& sum : batch->rows) {
    tokens += sum.prompt_tokens;
    if (sum.key_id != "-") continue;
    ++nobody;
    EXPECT_EQ(sum.day, 6);
    EXPECT_EQ(sum.requests, 501u);
  }
  EXPECT_EQ(tokens, rows);
  EXPECT_EQ(nobody, 1u);
}

TEST_F(UsageBookTest, AFullBookIsTheSameInItsNextLife) {
  UsageBook before("gateway/1");
  for (std::size_t i = 0; i < wire::kUsageRowsMax + 5; ++i) {
    before.add(row("key-" + std::to_string(i), 1, 1));
  }
  ASSERT_TRUE(before.save(file).has_value());

  UsageBook after("gateway/2");
  ASSERT_TRUE(after.load(file).has_value());

  EXPECT_EQ(after.batch()->rows, before.batch()->rows);
}

TEST_F(UsageBookTest, GoesOnWithoutABatchThatIsSetAside) {
  UsageBook book("gateway/1");
  book.add(row("a", 1, 10));
  const wire::UsageBatch refused = *book.batch();
  book.add(row("b", 1, 20));

  EXPECT_EQ(book.set_aside(), refused);

  ASSERT_NE(book.batch(), nullptr);
  EXPECT_NE(book.batch()->id, refused.id);
  EXPECT_EQ(book.batch()->rows.at(0).key_id, "b");
}

TEST_F(UsageBookTest, AnotherLifeSendsTheSameBatchAgain) {
  UsageBook before("gateway/1");
  before.add(row("a", 1, 10));
  const wire::UsageBatch sent = *before.batch();
  before.add(row("b", 1, 20));
  ASSERT_TRUE(before.save(file).has_value());

  UsageBook after("gateway/2");
  ASSERT_TRUE(after.load(file).has_value());

  EXPECT_EQ(*after.batch(), sent);
  after.acknowledged();
  ASSERT_NE(after.batch(), nullptr);
  EXPECT_EQ(after.batch()->rows[0].key_id, "b");
}

TEST_F(UsageBookTest, SetsAFileAsideThatIsNotWhole) {
  UsageBook whole("gateway/1");
  whole.add(row("a", 1, 10));
  ASSERT_TRUE(whole.save(file).has_value());
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const std::string contents[] = {"", text.substr(0, text.size() - 1), text.substr(0, 4),
                                  text + "x", "something else entirely, longer than a length"};
  for (const std::string& content : contents) {
    std::ofstream(file, std::ios::binary) << content;
    UsageBook book("gateway/2");

    const auto loaded = book.load(file);

    ASSERT_FALSE(loaded.has_value()) << content.size();
    EXPECT_EQ(loaded.error().code, base::ErrorCode::kCorruptData);
    EXPECT_TRUE(book.is_empty());
    EXPECT_FALSE(fs::exists(file));
    EXPECT_EQ(fs::file_size(damaged), content.size());
  }
  UsageBook book("gateway/2");
  EXPECT_TRUE(book.load(file).has_value());  // there is none now
}

TEST_F(UsageBookTest, SaysSoWhereItCannotSave) {
  UsageBook book("gateway/1");
  book.add(row("a", 1, 10));
  const auto saved = book.save(file / "no-folder" / "usage");
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, base::ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::gateway
