#include "quotas.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "conclave/base/check.hpp"
#include "placer.hpp"

namespace conclave::placement {

std::vector<std::uint64_t> share_out(std::uint64_t total, const std::vector<std::uint64_t>& room,
                                     const std::vector<std::uint64_t>& holds) {
  std::vector<std::uint64_t> shares(room.size());
  std::vector<std::size_t> open(room.size());
  std::iota(open.begin(), open.end(), std::size_t{0});
  // Least room first: whoever has less than an equal share is filled, and the rest share what is
  // left.
  std::stable_sort(open.begin(), open.end(), [&](auto a, auto b) { return room[a] < room[b]; });
  auto next = open.begin();
  for (; next != open.end(); ++next) {
    const auto left = static_cast<std::uint64_t>(open.end() - next);
    if (room[*next] > total / left) break;
    shares[*next] = room[*next];
    total -= room[*next];
  }
  open.erase(open.begin(), next);
  if (open.empty()) {
    CONCLAVE_CHECK(total == 0);
    return shares;
  }
  std::stable_sort(open.begin(), open.end(), [&](auto a, auto b) {
    return std::tuple(holds[b], a) < std::tuple(holds[a], b);
  });
  for (std::size_t i = 0; i < open.size(); ++i) {
    shares[open[i]] = total / open.size() + (i < total % open.size() ? 1 : 0);
  }
  return shares;
}

std::vector<std::uint64_t> share_out_by_speed(std::uint64_t total,
                                              const std::vector<std::uint64_t>& room,
                                              const std::vector<double>& speed) {
  // Who is filled first gets its room; the rest share what is left, as in share_out.
  std::vector<std::size_t> open(room.size());
  std::iota(open.begin(), open.end(), std::size_t{0});
  std::stable_sort(open.begin(), open.end(), [&](auto a, auto b) {
    return static_cast<double>(room[a]) * speed[b] < static_cast<double>(room[b]) * speed[a];
  });
  double speeds = std::accumulate(speed.begin(), speed.end(), 0.0);
  std::vector<std::uint64_t> shares(room.size());
  std::vector<double> part(room.size());
  std::uint64_t left = total;
  for (const std::size_t i : open) {
    part[i] = std::min(static_cast<double>(room[i]),
                       static_cast<double>(left) * speed[i] / std::max(speeds, speed[i]));
    shares[i] = std::min<std::uint64_t>({static_cast<std::uint64_t>(part[i]), room[i], left});
    speeds -= speed[i];
    left -= shares[i];
  }
  // What rounding left over: one each to those furthest below their part.
  std::stable_sort(open.begin(), open.end(), [&](auto a, auto b) {
    const double below_a = part[a] - static_cast<double>(shares[a]);
    const double below_b = part[b] - static_cast<double>(shares[b]);
    return below_a != below_b ? below_a > below_b : a < b;
  });
  while (left > 0) {
    const std::uint64_t before = left;
    for (const std::size_t i : open) {
      if (left == 0 || shares[i] == room[i]) continue;
      ++shares[i];
      --left;
    }
    CONCLAVE_CHECK(left < before);
  }
  return shares;
}

// Worker i gets floor(share / layers) in each layer and one more in share % layers of them. Which
// those are is a problem of placing again: of layers on workers.
std::vector<std::uint32_t> spread_over_layers(const std::vector<std::uint64_t>& shares,
                                              std::uint32_t layers,
                                              const std::vector<std::uint32_t>& holds) {
  const std::size_t workers = shares.size();
  PlacerInput odd;
  std::uint64_t all_odd = 0;
  for (const std::uint64_t share : shares) {
    odd.room.push_back(static_cast<std::uint32_t>(share % layers));
    all_odd += odd.room.back();
  }
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    odd.copies.push_back(
        static_cast<std::uint32_t>(all_odd / layers + (layer < all_odd % layers ? 1 : 0)));
  }
  for (std::size_t i = 0; i < workers; ++i) {
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      const bool has_one = holds[std::size_t{layer} * workers + i] > shares[i] / layers;
      odd.held.push_back(has_one ? Holding::kResident : Holding::kNone);
    }
  }
  const std::vector<std::uint8_t> placed = Placer(odd).place();

  std::vector<std::uint32_t> quotas;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    for (std::size_t i = 0; i < workers; ++i) {
      quotas.push_back(static_cast<std::uint32_t>(shares[i] / layers) + placed[i * layers + layer]);
    }
  }
  return quotas;
}

}  // namespace conclave::placement
