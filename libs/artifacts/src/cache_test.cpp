#include "cache.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <vector>

namespace conclave::artifacts {
namespace {

using base::ErrorCode;
namespace fs = std::filesystem;

class CacheTest : public ::testing::Test {
 protected:
  CacheTest() {
    std::string name = testing::TempDir() + "artifacts_cache.XXXXXX";
    directory_ = fs::path(::mkdtemp(name.data())) / "cache";
  }
  ~CacheTest() override { fs::remove_all(directory_.parent_path()); }

  std::unique_ptr<Cache> open(std::uint64_t bytes_max = 1 << 20) {
    return Cache::open(directory_, bytes_max, CacheMetrics(metrics_)).value();
  }

  static model::Sha256 sum_of(const std::string& text) {
    model::Sha256Hasher hasher;
    hasher.update(std::as_bytes(std::span(text)));
    return hasher.finish();
  }

  base::Status put(Cache& cache, const std::string& text, const model::Sha256& sum) const {
    const fs::path path = directory_.parent_path() / ("from" + std::to_string(::getpid()));
    std::ofstream(path, std::ios::binary) << text;
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    // In two pieces, the way of an expert.
    const std::uint64_t half = text.size() / 2;
    const std::array ranges{FileRange{file.get(), 0, half},
                            FileRange{file.get(), half, text.size() - half}};
    return cache.put(sum, ranges);
  }
  base::Status put(Cache& cache, const std::string& text) const {
    return put(cache, text, sum_of(text));
  }

  static std::optional<std::string> get(const Cache& cache, const std::string& text) {
    const auto file = cache.find(sum_of(text));
    if (!file) return {};
    std::string all(text.size() + 1, '\0');
    const ssize_t got = ::pread(file->get(), all.data(), all.size(), 0);
    all.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return all;
  }

  [[nodiscard]] std::size_t files_in(const char* part) const {
    std::size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory_ / part)) {
      files += entry.is_regular_file() ? 1u : 0u;
    }
    return files;
  }
  [[nodiscard]] std::uint64_t bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory_ / "blobs")) {
      bytes += entry.is_regular_file() ? entry.file_size() : 0u;
    }
    return bytes;
  }

  // The blob's time of last use, so many seconds ago.
  void age(const std::string& text, long seconds) const {
    const std::string hex = model::to_hex(sum_of(text));
    const fs::path path = directory_ / "blobs" / hex.substr(0, 2) / hex;
    const timespec when{1'700'000'000 - seconds, 0};
    const std::array<timespec, 2> times{when, when};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0), 0);
  }

  telemetry::Metrics metrics_;
  fs::path directory_;
};

TEST_F(CacheTest, GivesBackWhatItTook) {
  const auto cache = open();
  EXPECT_EQ(get(*cache, "a piece"), std::nullopt);

  ASSERT_TRUE(put(*cache, "a piece").has_value());
  ASSERT_TRUE(put(*cache, "a piece").has_value());

  EXPECT_EQ(get(*cache, "a piece"), "a piece");
  EXPECT_EQ(get(*open(), "a piece"), "a piece");
  EXPECT_EQ(files_in("blobs"), 1u);
  EXPECT_EQ(files_in("tmp"), 0u);
}

TEST_F(CacheTest, TakesNothingWithAnotherSum) {
  const auto cache = open();

  const base::Status taken = put(*cache, "a piece", sum_of("another piece"));

  EXPECT_EQ(taken.error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(files_in("blobs"), 0u);
  EXPECT_EQ(files_in("tmp"), 0u);
}

TEST_F(CacheTest, NamesPointAtPieces) {
  const auto cache = open();
  EXPECT_EQ(cache->find_name("model:0"), std::nullopt);

  ASSERT_TRUE(put(*cache, "one").has_value());
  ASSERT_TRUE(cache->put_name("model:0", sum_of("one")).has_value());
  EXPECT_EQ(open()->find_name("model:0"), sum_of("one"));
  ASSERT_TRUE(cache->put_name("model:0", sum_of("two")).has_value());
  EXPECT_EQ(cache->find_name("model:0"), sum_of("two"));
}

TEST_F(CacheTest, TheLongestUnusedGoFirst) {
  const auto cache = open(100);
  const std::string a(30, 'a'), b(30, 'b'), c(30, 'c'), d(30, 'd');
  for (const std::string& piece : {a, b, c}) ASSERT_TRUE(put(*cache, piece).has_value());
  ASSERT_TRUE(cache->put_name("b", sum_of(b)).has_value());
  age(a, 300);
  age(b, 200);
  age(c, 100);
  EXPECT_TRUE(get(*cache, a).has_value());  // used now

  ASSERT_TRUE(put(*cache, d).has_value());

  EXPECT_EQ(get(*cache, b), std::nullopt);
  EXPECT_EQ(cache->find_name("b"), std::nullopt);
  EXPECT_EQ(get(*cache, a), a);
  EXPECT_EQ(get(*cache, d), d);
  EXPECT_LE(bytes(), 100u);
}

TEST_F(CacheTest, WhatIsLargerThanAllOfItIsNotKept) {
  const auto cache = open(10);

  EXPECT_TRUE(put(*cache, "eleven bytes").has_value());

  EXPECT_EQ(files_in("blobs"), 0u);
  EXPECT_EQ(get(*open(0), "eleven bytes"), std::nullopt);
}

TEST_F(CacheTest, ASmallerBoundHoldsFromTheStart) {
  ASSERT_TRUE(put(*open(), std::string(60, 'a')).has_value());
  ASSERT_TRUE(put(*open(), std::string(50, 'b')).has_value());

  const auto cache = open(100);

  EXPECT_EQ(files_in("blobs"), 1u);
}

TEST_F(CacheTest, ADamagedPieceIsDropped) {
  const auto cache = open();
  ASSERT_TRUE(put(*cache, "a piece").has_value());

  cache->drop(sum_of("a piece"));
  cache->drop(sum_of("a piece"));

  EXPECT_EQ(get(*cache, "a piece"), std::nullopt);
  ASSERT_TRUE(put(*cache, "a piece").has_value());
  EXPECT_EQ(get(*cache, "a piece"), "a piece");
}

TEST_F(CacheTest, RefusesADirectoryOfOthers) {
  fs::create_directories(directory_);
  ::chmod(directory_.c_str(), 0777);

  EXPECT_EQ(Cache::open(directory_, 100, CacheMetrics(metrics_)).error().code,
            ErrorCode::kFailedPrecondition);
}

TEST_F(CacheTest, AScratchDirectoryEndsWithItsOwner) {
  const auto cache = open();
  fs::path path;
  {
    const Scratch scratch = cache->scratch().value();
    path = scratch.path();
    std::ofstream(path / "part") << "bytes";
    open();  // cleans, but not what is held
    EXPECT_TRUE(fs::exists(path / "part"));
  }
  EXPECT_FALSE(fs::exists(path));
}

// ---- several processes

// Runs `body` in a process of its own, which ends with what it says.
template <class Body>
pid_t in_process(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  return child;
}

int wait(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

std::string piece(int number) {
  return std::string(100 + static_cast<std::size_t>(number), static_cast<char>('a' + number % 26));
}

TEST_F(CacheTest, SeveralProcessesShareIt) {
  constexpr std::uint64_t kMax = 4'000;  // some 25 of 60 pieces
  open(kMax);
  std::vector<pid_t> children;
  for (int process = 0; process < 4; ++process) {
    children.push_back(in_process([&] {
      const auto cache = open(kMax);
      for (int round = 0; round < 120; ++round) {
        const std::string text = piece((round * 7 + process * 13) % 60);
        if (!put(*cache, text).has_value()) return false;
        const auto got = get(*cache, text);
        if (got && *got != text) return false;  // whole, or not there
      }
      return true;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(wait(child), 0);

  EXPECT_LE(bytes(), kMax);
  EXPECT_GT(files_in("blobs"), 5u);
  EXPECT_EQ(files_in("tmp"), 0u);
  const auto cache = open(kMax);
  for (int number = 0; number < 60; ++number) {
    const auto got = get(*cache, piece(number));
    if (got) {
      EXPECT_EQ(*got, piece(number));
    }
  }
}

TEST_F(CacheTest, KilledAtAnyPlaceLeavesNoHalf) {
  for (int round = 0; round < 40; ++round) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    const pid_t child = in_process([&] {
      const auto cache = open(6'000);
      for (int number = 0;; ++number) {
        const Scratch scratch = cache->scratch().value();
        static_cast<void>(put(*cache, piece(number % 60)));
        static_cast<void>(::write(pipe[1], "x", 1));
      }
      return true;
    });
    // After some pieces, somewhere in the next one.
    char told[8];
    for (ssize_t got = 0; got < 1 + round % 7;) got += ::read(pipe[0], told, 1);
    ::kill(child, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(wait(child)));
    ::close(pipe[0]);
    ::close(pipe[1]);

    const auto cache = open(6'000);
    EXPECT_TRUE(fs::is_empty(directory_ / "tmp"));
    for (int number = 0; number < 60; ++number) {
      const auto got = get(*cache, piece(number));
      if (got) {
        EXPECT_EQ(*got, piece(number));
      }
    }
    EXPECT_LE(bytes(), 6'000u);
  }
}

}  // namespace
}  // namespace conclave::artifacts
