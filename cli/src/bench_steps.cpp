#include "bench_steps.hpp"

namespace conclave::cli {
namespace {

double seconds(StepTimes::Time from, StepTimes::Time to) {
  return std::chrono::duration<double>(to - from).count();
}

double rate(std::size_t tokens, double in_seconds) {
  return in_seconds > 0.0 ? static_cast<double>(tokens) / in_seconds : 0.0;
}

}  // namespace

void StepTimes::add(std::size_t sequence, bool last, Time now) {
  if (steps_.empty() || last_[sequence] == steps_.size()) steps_.emplace_back();
  Step& step = steps_.back();
  step.at = now;
  ++step.tokens;
  if (last_[sequence] == 0) ++step.begun;
  if (last) ++step.ended;
  last_[sequence] = steps_.size();
}

BatchSpeed StepTimes::speed(std::size_t prompt_tokens_each) const {
  if (steps_.empty()) return {};
  const std::size_t prompts = prompt_tokens_each * last_.size();
  BatchSpeed speed;
  std::size_t output = 0;
  std::size_t begun = 0;
  std::size_t ended = 0;
  std::size_t together = 0;  // tokens while all decode
  Time all_begun = start_;
  Time one_ended = start_;
  for (const Step& step : steps_) {
    output += step.tokens;
    if (begun == last_.size() && ended == 0) {
      together += step.tokens;
      one_ended = step.at;
    }
    begun += step.begun;
    ended += step.ended;
    if (step.begun > 0) all_begun = step.at;
  }
  speed.prompt = rate(prompts, seconds(start_, all_begun));
  if (together > 0) speed.decode = rate(together, seconds(all_begun, one_ended));
  speed.total = rate(prompts + output, seconds(start_, steps_.back().at));
  return speed;
}

double StepTimes::first_token_s() const {
  return steps_.empty() ? 0.0 : seconds(start_, steps_.front().at);
}

double StepTimes::decode_s() const {
  return steps_.empty() ? 0.0 : seconds(steps_.front().at, steps_.back().at);
}

}  // namespace conclave::cli
