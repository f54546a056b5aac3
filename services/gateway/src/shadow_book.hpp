// Streams whose answers nobody sees: copies of requests for a version that is being tried out. They
// are in no client's way, count for no key, and end with their router or their time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "conclave/wire/inference.hpp"
#include "router_directory.hpp"

namespace conclave::gateway {

/// One thread. At most kShadowsMax at once: a version that cannot keep up is tried with fewer.
class ShadowBook {
 public:
  static constexpr std::size_t kShadowsMax = 64;
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Shadow {
    std::uint64_t stream = 0;
    RouterId router{};
    std::size_t sequences = 0;   // that it opened there
    std::size_t unfinished = 0;  // of them
    TimePoint deadline;
  };

  /// False: there are too many.
  bool open(const Shadow& shadow) {
    if (shadows_.size() >= kShadowsMax) return false;
    shadows_.emplace(shadow.stream, shadow);
    return true;
  }
  [[nodiscard]] bool knows(std::uint64_t stream) const { return shadows_.contains(stream); }

  /// The shadow, if this was its end.
  std::optional<Shadow> hear(const wire::StreamEvents& events) {
    const auto found = shadows_.find(events.stream);
    if (found == shadows_.end()) return std::nullopt;
    const auto ended = static_cast<std::size_t>(std::ranges::count_if(
        events.tokens,
        [](const wire::TokenEvent& event) { return event.finish != wire::FinishReason::kNone; }));
    found->second.unfinished -= std::min(found->second.unfinished, ended);
    if (found->second.unfinished > 0) return std::nullopt;
    return close(events.stream);
  }
  std::optional<Shadow> close(std::uint64_t stream) {
    const auto found = shadows_.extract(stream);
    if (found.empty()) return std::nullopt;
    return found.mapped();
  }
  std::vector<Shadow> lose(RouterId router) {
    return take([router](const Shadow& shadow) { return shadow.router == router; });
  }
  std::vector<Shadow> expire(TimePoint now) {
    return take([now](const Shadow& shadow) { return shadow.deadline <= now; });
  }

 private:
  template <class Which>
  std::vector<Shadow> take(Which which) {
    std::vector<Shadow> taken;
    std::erase_if(shadows_, [&](const auto& entry) {
      if (!which(entry.second)) return false;
      taken.push_back(entry.second);
      return true;
    });
    return taken;
  }

  std::unordered_map<std::uint64_t, Shadow> shadows_;
};

}  // namespace conclave::gateway
