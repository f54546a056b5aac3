#include "bench_limits.hpp"

#include <immintrin.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace conclave::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Four times the largest cache is read from memory; below 256 MiB a pass ends before its threads
// have all begun, beyond 2 GiB nothing would be learnt.
constexpr std::size_t kRoomLeast = std::size_t{256} << 20;
constexpr std::size_t kRoomMost = std::size_t{2} << 30;
constexpr std::size_t kCaches = 4;

// What a thread reads at a time: long enough for the prefetchers, short enough to share evenly.
constexpr std::size_t kPieceWords = (std::size_t{1} << 20) / sizeof(std::uint64_t);

// The best of so many passes is the limit: others lost time to something else. Memory is read in
// one of two ways in turn.
constexpr int kPasses = 6;

// About 10 ms of dot products at some 100 billion a second and thread.
constexpr long kDotRounds = 1'000'000;
// Independent sums: latency (4 to 5 cycles) times instructions a cycle (2), and some to spare,
// within the 16 registers that AVX2 has.
constexpr int kChains = 12;

double seconds_since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

std::size_t room_bytes() {
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  const auto wanted = cache > 0 ? kCaches * static_cast<std::size_t>(cache) : kRoomLeast;
  return std::clamp(wanted, kRoomLeast, kRoomMost);
}

// The sum of words, in as many chains as a line has words: enough loads under way for any
// instruction set. Lines in order, or one of each quarter in turn while those ahead are asked for:
// which is faster depends on the processor.
template <std::size_t kStreams>
std::uint64_t read_words(const std::uint64_t* words, std::size_t count) {
  constexpr std::size_t kLineWords = 8;
  constexpr std::size_t kAheadWords = 256;
  std::uint64_t sums[kLineWords] = {};
  const std::size_t stream_words = count / kStreams;
  for (std::size_t i = 0; i + kLineWords <= stream_words; i += kLineWords) {
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      const std::uint64_t* const line = words + stream * stream_words + i;
      if constexpr (kStreams > 1) __builtin_prefetch(line + kAheadWords, 0, 2);
      for (std::size_t k = 0; k < kLineWords; ++k) sums[k] ^= line[k];
    }
  }
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all ^= sum;
  return all;
}

// Each returns operations done: products and additions, counted separately. The empty assembly
// keeps the compiler from knowing the factors, and so from doing the work once.

__attribute__((target("avx512f,avx512vnni"))) double dots_avx512(long rounds, int& sink) {
  __m512i sums[kChains];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(-2);
  for (long i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(a));
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (const auto& sum : sums) sink += _mm512_reduce_add_epi32(sum);
  return 2.0 * 64 * kChains * static_cast<double>(rounds);
}

// Tiles of 16 rows and 16 outputs, 64 inputs each. To configure the registers clears them.
double dots_amx(long rounds) {
  alignas(64) std::array<std::uint8_t, 64> config = {1};  // LDTILECFG: palette 1
  for (std::size_t tile = 0; tile < 8; ++tile) {
    config[16 + 2 * tile] = 64;  // bytes of a row
    config[48 + tile] = 16;      // rows
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
  for (long i = 0; i < rounds; ++i) {
    asm volatile(
        "tdpbssd %tmm4, %tmm6, %tmm0\n\ttdpbssd %tmm5, %tmm6, %tmm1\n\t"
        "tdpbssd %tmm4, %tmm7, %tmm2\n\ttdpbssd %tmm5, %tmm7, %tmm3");
  }
  asm volatile("tilerelease");
  return 2.0 * 16 * 16 * 64 * 4 * static_cast<double>(rounds);
}

__attribute__((target("avx2"))) double dots_avx2(long rounds, int& sink) {
  __m256i sums[kChains];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-2);
  const __m256i ones = _mm256_set1_epi16(1);
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) {
      asm volatile("" : "+x"(a));
      const __m256i pairs = _mm256_maddubs_epi16(a, b);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
  }
  for (const auto& sum : sums) sink += _mm256_extract_epi32(sum, 0);
  return 2.0 * 32 * kChains * static_cast<double>(rounds);
}

// Any x86-64 multiplies pairs of 16 bits.
double dots_plain(long rounds, int& sink) {
  __m128i sums[kChains];
  for (auto& sum : sums) sum = _mm_setzero_si128();
  __m128i a = _mm_set1_epi16(3);
  const __m128i b = _mm_set1_epi16(-2);
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) {
      asm volatile("" : "+x"(a));
      sum = _mm_add_epi32(sum, _mm_madd_epi16(a, b));
    }
  }
  for (const auto& sum : sums) sink += _mm_cvtsi128_si32(sum);
  return 2.0 * 8 * kChains * static_cast<double>(rounds);
}

double dots(kernels::Isa isa, long rounds, int& sink) {
  switch (isa) {
    case kernels::Isa::kAmx:
      return dots_amx(rounds);
    case kernels::Isa::kAvx512:
      return dots_avx512(rounds, sink);
    case kernels::Isa::kAvx2:
      return dots_avx2(rounds, sink);
    case kernels::Isa::kScalar:
      return dots_plain(rounds, sink);
  }
  return 0.0;
}

}  // namespace

void LimitsProbe::Unmap::operator()(std::uint64_t* words) const { ::munmap(words, bytes); }

LimitsProbe::LimitsProbe(unsigned threads, kernels::Isa isa, Room room)
    : isa_(isa), pool_(std::make_unique<base::ThreadPool>(threads)), room_(std::move(room)) {
  // Untouched pages are all the same one. By all threads: memory comes from the node that asks.
  pool_->for_each(pieces(), [&](std::size_t piece, unsigned) {
    std::fill_n(room_.get() + piece * kPieceWords, kPieceWords, piece);
  });
}

base::Result<LimitsProbe> LimitsProbe::create(unsigned threads, kernels::Isa isa) {
  const std::size_t bytes = room_bytes();
  void* room = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    return base::fail(base::ErrorCode::kOverloaded,
                      "no memory for measuring it: " + std::to_string(bytes) + " bytes");
  }
  // With small pages the walks through page tables would be measured too. The system may refuse.
  ::madvise(room, bytes, MADV_HUGEPAGE);
  return LimitsProbe(threads, isa, Room(static_cast<std::uint64_t*>(room), Unmap{bytes}));
}

std::size_t LimitsProbe::pieces() const {
  return room_.get_deleter().bytes / (kPieceWords * sizeof(std::uint64_t));
}

double LimitsProbe::read_once(bool in_streams) {
  const auto read = in_streams ? read_words<4> : read_words<1>;
  std::atomic<std::uint64_t> sink{0};
  const auto start = SteadyClock::now();
  pool_->for_each(pieces(), [&](std::size_t piece, unsigned) {
    sink.fetch_xor(read(room_.get() + piece * kPieceWords, kPieceWords), std::memory_order_relaxed);
  });
  const auto bytes = pieces() * kPieceWords * sizeof(std::uint64_t);
  return static_cast<double>(bytes) / seconds_since(start);
}

double LimitsProbe::multiply_once() {
  std::atomic<int> sink{0};
  std::atomic<double> done{0.0};
  const std::size_t parts = std::size_t{threads()} * 8;  // shared evenly when a thread is late
  const auto start = SteadyClock::now();
  pool_->for_each(parts, [&](std::size_t, unsigned) {
    int sum = 0;
    done.fetch_add(dots(isa_, kDotRounds / 8, sum));
    sink.fetch_xor(sum, std::memory_order_relaxed);
  });
  return done.load() / seconds_since(start);
}

MachineLimits LimitsProbe::measure() {
  MachineLimits best;
  for (int pass = 0; pass < kPasses; ++pass) {
    best.memory_bytes_per_s = std::max(best.memory_bytes_per_s, read_once(pass % 2 == 1));
    best.int8_ops_per_s = std::max(best.int8_ops_per_s, multiply_once());
  }
  return best;
}

}  // namespace conclave::cli
