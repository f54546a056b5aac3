// What the scheduler can be told.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::scheduler {

/// What happens to a token that wants an expert of which no copy is left.
enum class WithoutReplica : std::uint8_t {
  kWait,      // until there is one
  kNextBest,  // the gate's next best takes its place, but never of the best; the answer says so
  kFail,      // its request fails
};

/// What happens where a new version has no room beside the one that it replaces.
enum class VersionChange : std::uint8_t {
  kWait,  // until there is room; the old one is served
  kGap,   // the old one goes at once, and nothing is served until the new one is loaded
};

/// The names that settings use; libs/config finds these by argument.
constexpr auto enum_names(VersionChange /*tag*/) {
  using Name = std::pair<std::string_view, VersionChange>;
  return std::to_array<Name>({{"wait", VersionChange::kWait}, {"gap", VersionChange::kGap}});
}
constexpr auto enum_names(WithoutReplica /*tag*/) {
  using Name = std::pair<std::string_view, WithoutReplica>;
  return std::to_array<Name>({{"wait", WithoutReplica::kWait},
                              {"next-best", WithoutReplica::kNextBest},
                              {"fail", WithoutReplica::kFail}});
}

/// Section `scheduler`.
struct SchedulerSettings {
  std::string listen = "tcp://127.0.0.1:7600";
  std::vector<std::string> registry{"tcp://127.0.0.1:7601"};
  std::string model;
  // With two, any one worker may die without a request noticing.
  std::uint32_t replicas = 2;
  // Three reports: a machine that is busy may be late with one.
  std::chrono::milliseconds lease{3000};
  std::chrono::milliseconds settle{1000};
  std::chrono::milliseconds grace{1000};
  std::chrono::milliseconds publish{100};
  std::chrono::milliseconds resolve{2000};
  std::chrono::milliseconds load_window{5000};
  double move_price = 0.1;
  WithoutReplica without_replica = WithoutReplica::kWait;
  VersionChange version_change = VersionChange::kWait;
  // Three series each, a megabyte of text in a scrape: what a Prometheus takes without a thought.
  std::uint32_t expert_series_max = 4096;

  template <class Visitor>
  void visit(Visitor&& v) {
    using std::chrono::milliseconds;
    v("listen", listen, "Address for all other nodes");
    v("registry", registry, "Addresses of the registries, which are asked in this order");
    v("model", model,
      "Model to serve: name, name@alias or name:version (default: the registry's own)");
    v("replicas", replicas, 1u, 64u,
      "Copies of each expert, each on another worker, where memory allows");
    v("lease-ms", lease, milliseconds{100}, milliseconds{3'600'000},
      "A node that does not report for this long is gone");
    v("settle-ms", settle, milliseconds{0}, milliseconds{600'000},
      "Wait for more reports after the first worker's, before anything is planned");
    v("grace-ms", grace, milliseconds{0}, milliseconds{600'000},
      "A copy that no table lists any more is kept this long, for calls under way");
    v("publish-ms", publish, milliseconds{10}, milliseconds{60'000},
      "Shortest time between two routing tables");
    v("resolve-ms", resolve, milliseconds{100}, milliseconds{3'600'000},
      "How often the registry is asked what the model means now");
    v("without-replica", without_replica,
      "Where no copy of an expert is left: wait, next-best (go on without it, and say so) or fail");
    v("load-window-ms", load_window, milliseconds{100}, milliseconds{3'600'000},
      "How long pairs are counted before the placement is judged by them");
    v("move-price", move_price, 0.0, 100.0,
      "How much the busiest worker's share (1: the mean) must fall to be worth moving all experts");
    v("version-change", version_change,
      "Where a new version has no room beside the old one: wait (the old one is served) or gap (it "
      "goes first)");
    v("expert-series-max", expert_series_max, 0u, 16'384u,
      "Most experts, of all versions, that /metrics shows one by one; with more, layers only");
  }
};

}  // namespace conclave::scheduler
