// How many copies each worker gets, in all and in each layer.
#pragma once

#include <cstdint>
#include <vector>

namespace conclave::placement {

/// `total` copies over workers with room for `room[i]` each: the same for all as far as there is
/// room, up to one. Who `holds` most now gets the odd ones. The sum of `room` must suffice.
std::vector<std::uint64_t> share_out(std::uint64_t total, const std::vector<std::uint64_t>& room,
                                     const std::vector<std::uint64_t>& holds);

/// The same in proportion to `speed` (> 0): nothing gets more than its room, and nobody could give
/// one to another who has room without being further below its part. Equal speeds share equally.
std::vector<std::uint64_t> share_out_by_speed(std::uint64_t total,
                                              const std::vector<std::uint64_t>& room,
                                              const std::vector<double>& speed);

/// (layer, worker): the `shares` spread over `layers`, so that both a worker's layers and a layer's
/// sum differ by at most one. `holds` (layer, worker): who has the odd one of a layer keeps it, if
/// that can be.
std::vector<std::uint32_t> spread_over_layers(const std::vector<std::uint64_t>& shares,
                                              std::uint32_t layers,
                                              const std::vector<std::uint32_t>& holds);

}  // namespace conclave::placement
