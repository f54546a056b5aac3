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
