// Which of several schedulers a node reports to, and whose word it takes. One of them leads, by a
// lease of the registry whose fencing token is its term; the others say who does. No actor, no
// socket, no clock: answers and the time go in.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conclave/wire/placement.hpp"

namespace conclave::fleet {

/// One thread. Time must not go backwards.
class SchedulerChoice {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// How often another one is asked in passing whether it leads by now: a leader that was parted
  /// from the registry does not know that it was replaced.
  static constexpr std::chrono::milliseconds kProbe{5'000};
  /// After so long without a leader of the greatest term, a lower one counts again: the registry's
  /// database, which counts terms, was replaced.
  static constexpr std::chrono::milliseconds kTermMemory{60'000};
  /// So many times in a row the former leader is told of the one that took its place: such a
  /// message may be lost, and may find nobody.
  static constexpr int kFarewells = 3;

  /// At least one address.
  explicit SchedulerChoice(std::vector<std::string> addresses);

  [[nodiscard]] std::size_t size() const { return addresses_.size(); }
  [[nodiscard]] const std::string& address(std::size_t scheduler) const {
    return addresses_[scheduler];
  }
  /// Whom to report to.
  [[nodiscard]] std::size_t current() const { return current_; }
  /// The last one asked leads, and answered.
  [[nodiscard]] bool is_led() const { return is_led_; }
  [[nodiscard]] std::uint64_t term() const { return term_; }
  /// To be said in every report: term(), as long as lower ones do not count.
  [[nodiscard]] std::uint64_t reported_term(Time now) const {
    return now - term_heard_ < kTermMemory ? term_ : 0;
  }

  /// Whether what `from` answered is to be applied. Otherwise it does not lead (any more), and the
  /// choice falls on whom it names, which may be one more than there were, or on the next.
  bool answered(std::size_t from, const wire::ReportReply& reply, Time now);
  /// It did not answer: the choice falls on the next.
  void failed(std::size_t from);
  /// One that can be reached now, after the choice fell on one that did not answer.
  void reachable(std::size_t scheduler);

  /// Not every one has been tried since begin_round(): the next try need not wait.
  [[nodiscard]] bool may_try_at_once() const { return tries_ < addresses_.size(); }
  void begin_round() { tries_ = 0; }

  /// Whom to ask in passing, if it is time; to be called once a beat. Who led before is asked at
  /// once: the report's term tells it that it was replaced.
  std::optional<std::size_t> probe(Time now);

 private:
  void move_on(std::size_t to);
  [[nodiscard]] std::size_t next_of(std::size_t scheduler) const;
  std::size_t index_of(const std::string& address);

  std::vector<std::string> addresses_;
  std::size_t configured_;  // of them; behind these, one that was named, at most
  std::size_t current_ = 0;
  std::size_t tries_ = 0;  // in vain, in this round
  bool is_led_ = false;
  std::optional<std::size_t> leader_;  // whose word was taken last
  std::size_t former_ = 0;             // who led before that
  int farewells_ = 0;                  // still to be said to it
  std::uint64_t term_ = 0;             // the greatest of those that led; 0: none
  Time term_heard_{};
  Time probed_{};
  std::size_t probe_ = 0;
};

}  // namespace conclave::fleet
