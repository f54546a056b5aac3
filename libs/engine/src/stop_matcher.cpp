#include "conclave/engine/stop_matcher.hpp"

#include <algorithm>
#include <utility>

namespace conclave::engine {
namespace {

// fallback[i]: the length of the longest proper border of the first i + 1 bytes.
std::vector<std::uint32_t> borders(std::string_view text) {
  std::vector<std::uint32_t> fallback(text.size(), 0);
  std::uint32_t length = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = fallback[length - 1];
    if (text[i] == text[length]) ++length;
    fallback[i] = length;
  }
  return fallback;
}

}  // namespace

StopMatcher::StopMatcher(std::span<const std::string> stops, bool include) : include_(include) {
  for (const std::string& stop : stops) automata_.push_back({stop, borders(stop), 0});
}

bool StopMatcher::Automaton::step(char byte) {
  while (state > 0 && text[state] != byte) state = fallback[state - 1];
  if (text[state] == byte) ++state;
  return state == text.size();
}

std::string StopMatcher::push(std::string_view piece) {
  if (automata_.empty()) return std::string(piece);
  if (matched_) return {};
  for (const char byte : piece) {
    held_ += byte;
    for (std::size_t i = 0; i < automata_.size(); ++i) {
      if (!automata_[i].step(byte)) continue;
      const bool longer = !matched_ || automata_[i].text.size() > automata_[*matched_].text.size();
      if (longer) matched_ = i;
    }
    if (matched_) {
      if (!include_) held_.resize(held_.size() - automata_[*matched_].text.size());
      return std::exchange(held_, {});
    }
  }
  if (include_) return std::exchange(held_, {});
  std::size_t possible = 0;  // bytes at the end that begin a stop string
  for (const Automaton& automaton : automata_) {
    possible = std::max<std::size_t>(possible, automaton.state);
  }
  std::string certain = held_.substr(0, held_.size() - possible);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace conclave::engine
