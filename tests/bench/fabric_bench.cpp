// How long a round of expert calls takes on each road of the data plane, beside a bare ZeroMQ
// ping-pong of the same payloads on the same machine in the same minute. Workers are processes of
// their own that answer with what they got.
//
//   fabric_bench [ROUNDS]       rounds of 100 measurements of every way, in turn (default 20)
//
// The target: the default settings (encrypted link, shared memory) take at most 1.5 times the bare
// ping-pong. It exits with 1 if they do not.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "conclave/fabric/keys.hpp"
#include "fabric_bench_ends.hpp"

namespace {

using namespace conclave::bench;
using std::chrono::steady_clock;

constexpr std::size_t kWorkers = 8;
constexpr int kMeasurements = 100;
constexpr int kWarmUp = 200;
constexpr double kTarget = 1.5;

struct Way {
  const char* name;
  std::unique_ptr<Caller> caller;
  std::vector<double> us = {};

  [[nodiscard]] double at(double quantile) {
    std::ranges::sort(us);
    return us[static_cast<std::size_t>(quantile * static_cast<double>(us.size() - 1))];
  }
};

void measure(Way& way, std::size_t bytes) {
  for (int i = 0; i < kMeasurements; ++i) {
    const auto start = steady_clock::now();
    way.caller->round(bytes);
    way.us.push_back(
        std::chrono::duration<double, std::micro>(steady_clock::now() - start).count());
  }
}

/// Whether the default settings meet the target.
bool compare(const Workers& workers, const std::filesystem::path& keys, std::size_t fan_out,
             std::size_t bytes, int rounds) {
  std::array<Way, 5> ways{
      {{"bare ZeroMQ", bare_caller(workers, fan_out)},
       {"shared (default)", fabric_caller(workers, fan_out, Road::kShared, keys)},
       {"frames, curve", fabric_caller(workers, fan_out, Road::kFrames, keys)},
       {"frames, none", fabric_caller(workers, fan_out, Road::kFramesPlain, keys)},
       {"direct", fabric_caller(workers, fan_out, Road::kDirect, keys)}}};
  for (Way& way : ways) {
    for (int i = 0; i < kWarmUp; ++i) way.caller->round(bytes);
  }
  for (int round = 0; round < rounds; ++round) {
    for (Way& way : ways) measure(way, bytes);
  }
  std::printf("%zu KiB each way, %zu worker%s\n", bytes / 1024, fan_out, fan_out == 1 ? "" : "s");
  const double bare = ways[0].at(0.5);
  for (Way& way : ways) {
    std::printf("  %-18s %8.1f us  p99 %8.1f us  x %.2f\n", way.name, way.at(0.5), way.at(0.99),
                way.at(0.5) / bare);
  }
  return ways[1].at(0.5) <= kTarget * bare;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 20;
  std::string pattern = (std::filesystem::temp_directory_path() / "fabric-bench-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return 2;
  const std::filesystem::path keys = pattern;
  bool met = true;
  if (conclave::fabric::write_keys(keys)) {
    const Workers workers(keys, kWorkers);
    for (const std::size_t fan_out : {std::size_t{1}, kWorkers}) {
      for (const std::size_t bytes : {std::size_t{4096}, std::size_t{65536}}) {
        met = compare(workers, keys, fan_out, bytes, rounds) && met;
      }
    }
    std::printf("target (default within x %.1f of bare ZeroMQ): %s\n", kTarget,
                met ? "met" : "MISSED");
  }
  std::filesystem::remove_all(keys);
  return met ? 0 : 1;
}
