// What became of the requests of a run, and what that comes to. No sockets and no clock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench_answer.hpp"
#include "bench_statistics.hpp"

namespace conclave::cli {

/// A service level that a request meets or not; none: any.
struct ServiceLevel {
  std::optional<double> ttft_s;  // until its first token
  std::optional<double> itl_s;   // between its tokens, on average
};

/// Requests that failed alike.
struct Failures {
  std::uint64_t count = 0;
  std::string first;  // what the first of them was told
};

struct LoadReport {
  double seconds = 0.0;
  std::uint64_t completed = 0;
  std::uint64_t failed = 0;
  std::uint64_t unfinished = 0;  // under way when the run was interrupted
  std::uint64_t prompt_tokens = 0;
  std::uint64_t output_tokens = 0;
  std::optional<std::uint64_t> cached_tokens;  // where the server tells
  double requests_per_s = 0.0;
  double output_tokens_per_s = 0.0;
  double total_tokens_per_s = 0.0;  // prompts and output
  double good_per_s = 0.0;          // requests that met the service level, each second
  Distribution ttft_s;
  Distribution itl_s;  // of all gaps of all requests
  Distribution e2e_s;
  std::map<std::string, Failures> errors;  // by kind
};

/// Grows with the requests, and by four bytes for each token that is streamed.
class LoadTally {
 public:
  explicit LoadTally(const ServiceLevel& level) : level_(level) {}

  /// A request that was due at `due_s` and whose answer was whole at `end_s`. Waiting for a free
  /// connection counts: users wait too. `prompt_tokens`: if the server does not tell.
  void completed(double due_s, double end_s, const AnswerReader& answer,
                 std::uint64_t prompt_tokens);

  /// `kind` is one of a few: "connection", "timeout", "status 429", ..
  void failed(const std::string& kind, const std::string& message);
  void unfinished() { ++unfinished_; }

  /// `seconds`: from the start to the end of the last request.
  [[nodiscard]] LoadReport report(double seconds) const;

 private:
  [[nodiscard]] bool is_good(double due_s, const AnswerReader& answer) const;

  ServiceLevel level_;
  std::uint64_t good_ = 0;
  std::uint64_t unfinished_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t output_tokens_ = 0;
  std::optional<std::uint64_t> cached_tokens_;
  std::vector<double> ttft_s_;
  std::vector<double> e2e_s_;
  std::vector<float> gaps_s_;
  std::map<std::string, Failures> errors_;
};

}  // namespace conclave::cli
