#include "conclave/engine/kv_file.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;
using base::ErrorCode;
namespace fs = std::filesystem;

constexpr std::uint32_t kBlock = model::kKvBlockTokens;

// The file of this process that has no name any more: as a broken disk would reach it.
fs::path nameless_file() {
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const fs::path target = fs::read_symlink(entry, error);
    if (!error && target.string().find("/#") != std::string::npos) return entry.path();
  }
  return {};
}

void overwrite(std::size_t offset, std::size_t bytes) {
  std::fstream file(nameless_file(), std::ios::binary | std::ios::in | std::ios::out);
  ASSERT_TRUE(file);
  file.seekp(static_cast<std::streamoff>(offset));
  file << std::string(bytes, '\x5a');
}

struct KvFileTest : testing::Test {
  KvFileTest()
      : pool(model::KvPool::create(demo().config(), BatcherOptions().kv_type, 8).value()) {}

  void create(std::uint64_t blocks) {
    file.reset();
    file = KvFile::create(fs::temp_directory_path(), blocks * pool->block_bytes(), *pool).value();
  }
  void fill(model::KvBlockId block, int with) {
    std::ranges::fill(pool->bytes(block), static_cast<std::byte>(with));
  }
  bool holds(model::KvBlockId block, int with) {
    return std::ranges::count(pool->bytes(block), static_cast<std::byte>(with)) ==
           static_cast<std::ptrdiff_t>(pool->block_bytes());
  }
  static PrefixKey key(std::uint64_t number) { return {number, ~number}; }
  BlockTokens tokens(std::int32_t first) {
    std::iota(scratch.begin(), scratch.end(), first);
    return scratch;
  }

  std::unique_ptr<model::KvPool> pool;
  std::unique_ptr<KvFile> file;
  std::array<std::int32_t, kBlock> scratch{};
};

TEST_F(KvFileTest, GivesBackWhatItGot) {
  create(4);
  fill(0, 1);
  fill(1, 2);
  file->put(0, key(1), tokens(1));
  file->put(1, key(2), tokens(2));
  EXPECT_TRUE(file->get(5, key(1), tokens(1)));
  EXPECT_TRUE(holds(5, 1));
  EXPECT_TRUE(file->get(5, key(2), tokens(2)));
  EXPECT_TRUE(holds(5, 2));
  EXPECT_FALSE(file->get(5, key(3), tokens(3)));
  EXPECT_FALSE(file->get(5, key(1), tokens(2))) << "a collision of keys";
  EXPECT_EQ(file->blocks(), 2u);
}

TEST_F(KvFileTest, TheOldestMakesRoom) {
  create(3);
  for (int i = 0; i < 5; ++i) {
    fill(0, i + 1);
    file->put(0, key(static_cast<std::uint64_t>(i)), tokens(i));
  }
  EXPECT_EQ(file->blocks(), 3u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(file->get(1, key(static_cast<std::uint64_t>(i)), tokens(i)), i >= 2) << i;
    EXPECT_EQ(holds(1, i + 1), i >= 2) << i;
  }
}

TEST_F(KvFileTest, WhatItHasIsNotWrittenAgain) {
  create(2);
  file->put(0, key(1), tokens(1));
  file->put(0, key(2), tokens(2));
  file->put(0, key(1), tokens(1));
  EXPECT_TRUE(file->has(key(2), tokens(2)));
}

TEST_F(KvFileTest, DamageIsAMiss) {
  create(3);
  for (int i = 0; i < 3; ++i) {
    fill(0, i + 1);
    file->put(0, key(static_cast<std::uint64_t>(i)), tokens(i));
  }
  overwrite(pool->block_bytes() + 1000, 1);
  EXPECT_TRUE(file->get(5, key(0), tokens(0)));
  EXPECT_FALSE(file->get(5, key(1), tokens(1)));
  EXPECT_FALSE(file->has(key(1), tokens(1)));
  EXPECT_TRUE(file->get(5, key(2), tokens(2)));
  fs::resize_file(nameless_file(), 2 * pool->block_bytes() + 10);
  EXPECT_FALSE(file->get(5, key(2), tokens(2)));
  EXPECT_TRUE(file->get(5, key(0), tokens(0)));
}

TEST_F(KvFileTest, RefusesWhatCannotBe) {
  const auto tiny = KvFile::create(fs::temp_directory_path(), pool->block_bytes() - 1, *pool);
  ASSERT_FALSE(tiny);
  EXPECT_EQ(tiny.error().code, ErrorCode::kInvalidArgument);
  const auto nowhere = KvFile::create("/no/such/directory", 1 << 30, *pool);
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, ErrorCode::kUnavailable);
}

TEST_F(KvFileTest, LeavesNothingBehind) {
  const fs::path directory = fs::temp_directory_path() / ("kv-" + std::to_string(::getpid()));
  fs::create_directory(directory);
  file = KvFile::create(directory, 4 * pool->block_bytes(), *pool).value();
  file->put(0, key(1), tokens(1));
  EXPECT_TRUE(fs::is_empty(directory));
  file.reset();
  EXPECT_TRUE(nameless_file().empty());
  fs::remove(directory);
}

// A pool that holds one of the prompts at a time, and a file that holds them all.
struct BatcherFileTest : BatchTest {
  ~BatcherFileTest() override { batcher.reset(); }
  void start_filed() {
    const BatcherOptions options{.kv_tokens_max = 10 * kBlock,
                                 .kv_file_bytes = std::uint64_t{64} << 20,
                                 .kv_file_directory = fs::temp_directory_path()};
    outcomes.clear();
    batcher.reset();
    file.reset();
    pool = make_kv_pool(demo().config(), options).value();
    file = make_kv_file(*pool, options).value();
    batcher.emplace(demo().backbone(), experts, *pool, demo().tokenizer(), demo().compute(),
                    options, file.get());
  }
  Outcome run(const SequenceRequest& request) {
    const SequenceId id = submit(request);
    finish();
    return outcomes[id];
  }

  const SequenceRequest first = endless(std::string(100, 'z'), 5);
  const SequenceRequest second = endless(std::string(100, 'y'), 5);
  std::unique_ptr<KvFile> file;
};

TEST_F(BatcherFileTest, WhatLeftMemoryComesBackWithTheSameBits) {
  const Outcome cold_first = alone(first);
  const Outcome cold_second = alone(second);
  start_filed();
  run(first);
  run(second);
  EXPECT_GT(batcher->stats().kv_tokens_filed, 0u);
  EXPECT_EQ(batcher->stats().restored_tokens, 0u);
  for (int i = 0; i < 3; ++i) {
    const Outcome warm_first = run(first);
    expect_same(warm_first, cold_first);
    EXPECT_GT(warm_first.cached_tokens, 5 * kBlock);
    expect_same(run(second), cold_second);
  }
  EXPECT_GT(batcher->stats().restored_tokens, 0u);
}

TEST_F(BatcherFileTest, ADamagedFileIsAMiss) {
  const Outcome cold = alone(first);
  start_filed();
  run(first);
  run(second);
  overwrite(0, file->blocks() * pool->block_bytes());
  const Outcome again = run(first);
  expect_same(again, cold);
  EXPECT_EQ(batcher->stats().restored_tokens, 0u);
}

TEST_F(BatcherFileTest, IsOffUnlessAskedFor) {
  start();
  EXPECT_EQ(make_kv_file(*pool, {}).value(), nullptr);
  run(first);
  EXPECT_EQ(batcher->stats().kv_tokens_filed, 0u);
}

}  // namespace
}  // namespace conclave::engine
