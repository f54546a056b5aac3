#include "conclave/wire/placement.hpp"

#include <algorithm>
#include <bit>

#include "conclave/base/check.hpp"

namespace conclave::wire {

ExpertBits::ExpertBits(std::uint32_t layers, std::uint32_t experts,
                       std::span<const std::uint64_t> words)
    : ExpertBits(layers, experts) {
  std::copy_n(words.begin(), std::min(words.size(), words_.size()), words_.begin());
  // Bits beyond the last expert would count and compare.
  const std::size_t used = std::size_t{layers_} * experts_ % 64;
  if (used != 0) words_.back() &= (std::uint64_t{1} << used) - 1;
}

bool ExpertBits::test(std::uint32_t layer, std::uint32_t expert) const {
  if (layer >= layers_ || expert >= experts_) return false;
  const std::size_t bit = std::size_t{layer} * experts_ + expert;
  return (words_[bit / 64] >> (bit % 64) & 1) != 0;
}

void ExpertBits::set(std::uint32_t layer, std::uint32_t expert, bool value) {
  CONCLAVE_CHECK(layer < layers_ && expert < experts_);
  const std::size_t bit = std::size_t{layer} * experts_ + expert;
  const std::uint64_t mask = std::uint64_t{1} << (bit % 64);
  if (value) {
    words_[bit / 64] |= mask;
  } else {
    words_[bit / 64] &= ~mask;
  }
}

std::size_t ExpertBits::count() const {
  std::size_t count = 0;
  for (const std::uint64_t word : words_) count += static_cast<std::size_t>(std::popcount(word));
  return count;
}

std::span<const std::uint16_t> RoutingTable::pool_of(std::uint32_t layer,
                                                     std::uint32_t expert) const {
  if (layer >= layers || expert >= experts) return {};
  const std::size_t i = std::size_t{layer} * experts + expert;
  // Tables from the wire hold these; one under construction may not yet.
  if (i + 1 >= first.size() || first[i] > first[i + 1] || first[i + 1] > pool.size()) return {};
  return std::span(pool).subspan(first[i], first[i + 1] - first[i]);
}

const HostedModel* NodeReport::hosted(const ModelVersion& model) const {
  const auto found = std::find_if(models.begin(), models.end(), [&](const HostedModel& hosted) {
    return is_same_bytes(hosted.model, model);
  });
  return found == models.end() ? nullptr : &*found;
}

std::size_t NodeReport::experts_ready() const {
  std::size_t count = 0;
  for (const HostedModel& hosted : models) count += hosted.ready.count();
  return count;
}

const ServedModel* Fleet::served(const std::string& name, std::uint32_t version) const {
  const auto found = std::find_if(models.begin(), models.end(), [&](const ServedModel& model) {
    return model.model.name == name && model.model.version == version;
  });
  return found == models.end() ? nullptr : &*found;
}

bool Fleet::complete() const {
  return !models.empty() && std::all_of(models.begin(), models.end(), [](const ServedModel& model) {
    return model.complete || model.leaving;
  });
}

}  // namespace conclave::wire
