#include "token_log.hpp"

#include <algorithm>

#include "conclave/wire/limits.hpp"

namespace conclave::gateway {

void TokenLog::add(wire::StreamEvents& events) {
  const std::size_t again = std::min(skip_, events.prompt.size());
  events.prompt.erase(events.prompt.begin(),
                      events.prompt.begin() + static_cast<std::ptrdiff_t>(again));
  skip_ -= again;
  echoed_ += events.prompt.size();
  for (const wire::TokenEvent& event : events.tokens) {
    if (event.choice >= choices_.size()) continue;
    wire::ResumedChoice& choice = choices_[event.choice];
    begun_ = true;
    if (event.finish != wire::FinishReason::kNone) {
      choice.finished = true;
      tokens_ -= choice.tokens.size();
      choice.tokens = {};  // nobody goes on with it
    } else if (event.token >= 0 && !choice.finished && !overflowed_) {
      choice.tokens.push_back(event.token);
      overflowed_ = ++tokens_ > wire::kPromptTokensMax;
    }
  }
}

// A prompt that is not echoed as a whole has no output yet: routers say one after the other.
void TokenLog::resume(wire::Generate& generate) {
  generate.resume.clear();
  if (begun_) generate.resume = choices_;
  generate.echo = echo_ && !begun_ && (prompt_tokens_ == 0 || echoed_ < prompt_tokens_);
  skip_ = generate.echo ? echoed_ : 0;
}

}  // namespace conclave::gateway
