// How fast sequences of one batch went, from when each of their tokens came.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

namespace conclave::cli {

/// Tokens a second.
struct BatchSpeed {
  /// Prompts until the last sequence has its first token. Sequences that began before it decode
  /// meanwhile: that is how a batcher works, and is not counted in their favour.
  double prompt = 0.0;
  /// From there to the end of the first sequence, while all of them decode. 0: there is no such
  /// time, because the first ended before the last began.
  double decode = 0.0;
  double total = 0.0;  // prompts and output, from start to end
};

/// Takes the tokens of a run in the order in which the engine reports them and finds its steps in
/// them: a step brings at most one token a sequence. No clock of its own.
class StepTimes {
 public:
  using Time = std::chrono::steady_clock::time_point;

  StepTimes(std::size_t sequences, Time start) : start_(start), last_(sequences, 0) {}

  /// A token of `sequence`, seen at `now`; `last`: the sequence ends with it.
  void add(std::size_t sequence, bool last, Time now);

  /// After the last token of all sequences.
  [[nodiscard]] BatchSpeed speed(std::size_t prompt_tokens_each) const;
  /// When the first token came, after the start.
  [[nodiscard]] double first_token_s() const;
  /// From the first token to the last.
  [[nodiscard]] double decode_s() const;

 private:
  struct Step {
    Time at;
    std::size_t tokens = 0;
    std::size_t begun = 0;  // sequences whose first token it is
    std::size_t ended = 0;
  };

  Time start_;
  std::vector<std::size_t> last_;  // of each sequence: steps until its last token, 0: none yet
  std::vector<Step> steps_;
};

}  // namespace conclave::cli
