// What routers have said about one prompt so far, as far as another router needs it to go on: of
// each choice the tokens of its output, and whether it has ended. Texts and log-probabilities need
// no log: a client has them already, and what follows them is made of the tokens again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "conclave/wire/inference.hpp"

namespace conclave::gateway {

/// One thread. Bounded by what the model's context holds, four bytes a token of each choice, and in
/// any case by what one message takes to a router: wire::kPromptTokensMax tokens.
class TokenLog {
 public:
  TokenLog(std::uint32_t choices, bool echo) : echo_(echo), choices_(choices) {}

  /// A router took the prompt, which has so many tokens.
  void accepted(std::uint32_t prompt_tokens) { prompt_tokens_ = prompt_tokens; }

  /// Keeps what events without failures say. Tokens of the prompt that an earlier router had echoed
  /// already are taken out of them.
  void add(wire::StreamEvents& events);

  /// More tokens than a message holds: no router can go on.
  [[nodiscard]] bool overflowed() const { return overflowed_; }

  /// Makes `generate` go on where the log ends; add() then expects what that gives.
  void resume(wire::Generate& generate);

 private:
  const bool echo_;  // the client wants its prompt back
  std::vector<wire::ResumedChoice> choices_;
  std::size_t tokens_ = 0;  // of all choices
  bool begun_ = false;      // a choice has had a token, or its end
  bool overflowed_ = false;
  std::uint32_t prompt_tokens_ = 0;
  std::size_t echoed_ = 0;  // tokens of the prompt that the client has, or will have
  std::size_t skip_ = 0;    // of those, the ones that the router at work will echo again
};

}  // namespace conclave::gateway
