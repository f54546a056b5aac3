// Shares the load of a placement more evenly, as far as that is worth its bytes: a descent that
// relieves the busiest worker of a layer again and again, of which the best beginning is kept.
#pragma once

#include <cstdint>
#include <vector>

#include "board.hpp"

namespace conclave::placement {

class Improver {
 public:
  /// `budget` and `count_max`: most copies of a layer, and of a layer on one worker (more where
  /// there are more already).
  Improver(const PlanRequest& request, Board& board, const std::vector<std::uint32_t>& budget,
           std::vector<std::uint32_t> count_max);

  /// Until another pass would change nothing (or after kPassesMax): a plan of what comes out moves
  /// nothing.
  void improve();

 private:
  static constexpr std::uint32_t kPassesMax = 6;
  // Workers with least to do that a step looks at before it looks at all.
  static constexpr std::uint32_t kCandidates = 12;

  enum class Kind : std::uint8_t { kNothing, kMove, kSwap, kAdd, kReplace, kDrop };
  // `item` is on the busiest worker; it goes to `to`, from which `other` goes.
  struct Step {
    Kind kind = Kind::kNothing;
    std::uint32_t item = 0;
    std::uint32_t to = 0;
    std::uint32_t other = 0;
    double value = 0;
  };
  struct Change {
    std::uint32_t item;
    std::uint32_t worker;
    bool is_put;
  };
  using Layer = std::vector<Board::Indexes>;  // by expert

  bool improve(std::uint32_t layer, const Layer& before);
  [[nodiscard]] std::uint32_t busiest(std::uint32_t layer) const;
  [[nodiscard]] Step best_step(std::uint32_t layer, std::uint32_t top) const;
  void try_worker(std::uint32_t layer, std::uint32_t top, std::uint32_t w, Step& best) const;
  void try_free(std::uint32_t top, std::uint32_t item, std::uint32_t w, Step& best) const;
  void try_instead(std::uint32_t top, std::uint32_t item, std::uint32_t w, std::uint32_t other,
                   Step& best) const;
  void try_drop(std::uint32_t top, std::uint32_t item, Step& best) const;
  void offer(Step step, double peak, double top_time, double cost, Step& best) const;
  [[nodiscard]] bool may_go(std::uint32_t item, std::uint32_t from, std::uint32_t to) const;
  [[nodiscard]] double peak_of_others(std::uint32_t item, double rise, std::uint32_t a,
                                      std::uint32_t b) const;
  void apply(const Step& step, std::uint32_t top);
  void change(std::uint32_t item, std::uint32_t worker, bool is_put);
  [[nodiscard]] int moves_of(const Change& change, const Layer& before) const;

  const PlanRequest& request_;
  Board& board_;
  const std::vector<std::uint32_t>& budget_;
  std::vector<std::uint32_t> count_max_;  // by worker
  std::vector<Change> changes_;           // of the layer at hand, in order
};

}  // namespace conclave::placement
