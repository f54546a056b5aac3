#include "bench_tally.hpp"

#include <numeric>

namespace conclave::cli {

bool LoadTally::is_good(double due_s, const AnswerReader& answer) const {
  if (level_.ttft_s && (!answer.first_s() || *answer.first_s() - due_s > *level_.ttft_s)) {
    return false;
  }
  const auto& gaps = answer.gaps_s();
  if (!level_.itl_s || gaps.empty()) return true;
  const double sum = std::accumulate(gaps.begin(), gaps.end(), 0.0);
  return sum / static_cast<double>(gaps.size()) <= *level_.itl_s;
}

void LoadTally::completed(double due_s, double end_s, const AnswerReader& answer,
                          std::uint64_t prompt_tokens) {
  e2e_s_.push_back(end_s - due_s);
  if (answer.first_s()) ttft_s_.push_back(*answer.first_s() - due_s);
  gaps_s_.insert(gaps_s_.end(), answer.gaps_s().begin(), answer.gaps_s().end());
  if (is_good(due_s, answer)) ++good_;
  if (const auto& usage = answer.usage()) {
    prompt_tokens_ += usage->prompt_tokens;
    output_tokens_ += usage->output_tokens;
    if (usage->cached_tokens) {
      cached_tokens_ = cached_tokens_.value_or(0) + *usage->cached_tokens;
    }
  } else {
    prompt_tokens_ += prompt_tokens;
    output_tokens_ += answer.pieces();
  }
}

void LoadTally::failed(const std::string& kind, const std::string& message) {
  Failures& failures = errors_[kind];
  if (++failures.count == 1) failures.first = message;
}

LoadReport LoadTally::report(double seconds) const {
  LoadReport report;
  report.seconds = seconds;
  report.completed = e2e_s_.size();
  for (const auto& [kind, failures] : errors_) report.failed += failures.count;
  report.unfinished = unfinished_;
  report.prompt_tokens = prompt_tokens_;
  report.output_tokens = output_tokens_;
  report.cached_tokens = cached_tokens_;
  if (seconds > 0.0) {
    const auto rate = [&](std::uint64_t count) { return static_cast<double>(count) / seconds; };
    report.requests_per_s = rate(report.completed);
    report.output_tokens_per_s = rate(output_tokens_);
    report.total_tokens_per_s = rate(prompt_tokens_ + output_tokens_);
    report.good_per_s = rate(good_);
  }
  report.ttft_s = distribution_of(ttft_s_);
  report.itl_s = distribution_of({gaps_s_.begin(), gaps_s_.end()});
  report.e2e_s = distribution_of(e2e_s_);
  report.errors = errors_;
  return report;
}

}  // namespace conclave::cli
