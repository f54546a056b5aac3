#include "sequence_state.hpp"

#include <algorithm>
#include <utility>

#include "conclave/base/utf8.hpp"

namespace conclave::engine {

using base::ErrorCode;
using tokenizer::kNoToken;

namespace {

base::Status invalid(std::string message) {
  return base::fail(ErrorCode::kInvalidArgument, std::move(message));
}

bool contains(const std::vector<std::int32_t>& tokens, std::int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

base::Status check_tokens(const SequenceRequest& request, const model::ModelConfig& config) {
  const auto check = [&](std::int32_t token) -> base::Status {
    if (token >= 0 && static_cast<std::uint32_t>(token) < config.vocab) return {};
    return invalid("token " + std::to_string(token) + " is outside the vocabulary of " +
                   std::to_string(config.vocab));
  };
  for (const auto* tokens : {&request.prompt, &request.generated, &request.stop_tokens}) {
    for (const std::int32_t token : *tokens) CONCLAVE_TRY_VOID(check(token));
  }
  for (const LogitBias& entry : request.sampling.logit_bias) {
    CONCLAVE_TRY_VOID(check(entry.token));
  }
  return {};
}

base::Status check_stops(const SequenceRequest& request) {
  if (request.stop.size() > kStopStringsMax || request.stop_tokens.size() > kStopTokensMax) {
    return invalid("at most " + std::to_string(kStopStringsMax) + " stop strings and " +
                   std::to_string(kStopTokensMax) + " stop tokens are taken");
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty() || stop.size() > kStopBytesMax || !base::utf8::valid(stop)) {
      return invalid("a stop string must be 1 to " + std::to_string(kStopBytesMax) +
                     " bytes of UTF-8");
    }
  }
  return {};
}

}  // namespace

base::Status check_request(const SequenceRequest& request, const model::ModelConfig& config) {
  if (request.prompt.empty()) return invalid("the prompt has no tokens");
  const std::uint64_t tokens = std::uint64_t{request.prompt.size()} + request.max_tokens;
  if (tokens > config.context_length) {
    return invalid(std::to_string(request.prompt.size()) + " prompt tokens and " +
                   std::to_string(request.max_tokens) + " new ones exceed the context of " +
                   std::to_string(config.context_length) + " tokens");
  }
  if (request.generated.size() > request.max_tokens) {
    return invalid(std::to_string(request.generated.size()) +
                   " tokens are generated already, more than max-tokens");
  }
  if (request.sampling.min_tokens > request.max_tokens) {
    return invalid("min-tokens must not be above max-tokens");
  }
  if (request.top_logprobs > kTopLogprobsMax) {
    return invalid("top-logprobs must be 0 to " + std::to_string(kTopLogprobsMax));
  }
  if (request.cache_salt.size() > kCacheSaltBytesMax) {
    return invalid("a cache salt has at most " + std::to_string(kCacheSaltBytesMax) + " bytes");
  }
  CONCLAVE_TRY_VOID(check_stops(request));
  CONCLAVE_TRY_VOID(check_tokens(request, config));
  return validate(request.sampling);
}

SequenceState::SequenceState(SequenceId id, SequenceRequest request,
                             const model::ModelConfig& config,
                             const tokenizer::Tokenizer& tokenizer, bool shares_prefixes,
                             std::uint32_t burst_tokens)
    : id_(id),
      request_(std::move(request)),
      tokenizer_(tokenizer),
      prompt_(request_.prompt.size()),
      given_(static_cast<std::uint32_t>(prompt_ + request_.generated.size())),
      tokens_(std::exchange(request_.prompt, {})),
      cache_(request_.cache_salt, shares_prefixes),
      burst_tokens_(burst_tokens),
      scores_prompt_(request_.prompt_logprobs && request_.generated.empty() && prompt_ > 1),
      decoder_(tokenizer, request_.decode),
      matcher_(request_.stop, request_.include_stop) {
  ending_.id = id_;
  if (request_.sampling.has_penalties()) {
    for (const std::int32_t token : tokens_) counts_.add_prompt(token);
  }
  if (request_.sampling.min_tokens > 0) {
    blocked_ = request_.stop_tokens;
    if (!request_.ignore_eos) {
      const auto ends = tokenizer_.end_of_generation();
      blocked_.insert(blocked_.end(), ends.begin(), ends.end());
    }
    // A vocabulary may be longer than the model's matrix.
    std::erase_if(blocked_, [&](std::int32_t token) {
      return static_cast<std::uint32_t>(token) >= config.vocab;
    });
  }
  replay(std::exchange(request_.generated, {}));
  if (only_scores() && !scores_prompt_) end(FinishReason::kLength, ending_);
}

void SequenceState::replay(const std::vector<std::int32_t>& generated) {
  for (std::size_t i = 0; i < generated.size(); ++i) {
    if (finished_) {
      replayed_ = invalid("the generated tokens go on after the end of the text, which is token " +
                          std::to_string(i - 1));
      return;
    }
    TokenEvent event;  // was reported where the token was drawn
    take(generated[i], event);
    ending_.finish = event.finish;
    ending_.stop_token = event.stop_token;
    ending_.stop_string = event.stop_string;
  }
}

bool SequenceState::enter(KvBlocks& pool, std::uint32_t spare) {
  if (!cache_.enter(pool, tokens_, rows_wanted(), rows_to_share(), spare)) return false;
  count_cached();
  const std::uint64_t spared = std::uint64_t{2} * burst_tokens_;
  const std::uint64_t missing = std::min<std::uint64_t>(spared, rows_missing());
  burst_left_ =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(burst_tokens_, spared - missing));
  return true;
}

void SequenceState::skip_known(KvBlocks& pool) {
  if (cache_.skip_known(pool, tokens_, rows_to_share()) > 0) count_cached();
}

std::uint32_t SequenceState::restore(KvBlocks& pool, KvFile& file, std::size_t blocks_max) {
  const std::uint32_t rows = cache_.restore(pool, file, tokens_, rows_to_share(), blocks_max);
  if (rows > 0) count_cached();
  return rows;
}

bool SequenceState::is_next_in(const KvFile& file) {
  const auto key = next_shared();
  return key && file.has(*key, block_tokens(tokens_, computed() / model::kKvBlockTokens));
}

std::optional<PrefixKey> SequenceState::next_shared() {
  const bool could = computed() % model::kKvBlockTokens == 0 &&
                     computed() + model::kKvBlockTokens <= rows_to_share();
  const auto keys = could ? next_keys(1) : std::span<const PrefixKey>();
  return keys.empty() ? std::nullopt : std::optional(keys.front());
}

void SequenceState::advance(KvBlocks& pool, std::uint32_t rows) {
  cache_.advance(pool, tokens_, rows);
  reached_ = std::max(reached_, computed());
}

std::uint32_t SequenceState::rows_to_share() const {
  return scores_prompt_ && scored_ + 1 < prompt_ ? scored_ : known() - 1;
}

// What it passes over for the second time it has computed itself, or was counted.
void SequenceState::count_cached() {
  const auto prompt = static_cast<std::uint32_t>(prompt_);
  if (computed() <= reached_) return;
  cached_tokens_ += std::min(computed(), prompt) - std::min(reached_, prompt);
  reached_ = computed();
}

bool SequenceState::scores(std::uint32_t position) const {
  return scores_prompt_ && position + 1 < prompt_ && position >= scored_;
}

bool SequenceState::draws(std::uint32_t position) const {
  return !only_scores() && position + 1 == known();
}

void SequenceState::score(Sampler& sampler, std::uint32_t position, std::span<const float> logits,
                          TokenEvent& event) {
  if (const auto status = Sampler::check(logits, position + 1); !status) {
    return fail(status.error(), event);
  }
  event.prompt.push_back(sampler.logprobs(logits, tokens_[position + 1], request_.top_logprobs));
  scored_ = position + 1;
}

void SequenceState::draw(Sampler& sampler, std::span<const float> logits, TokenEvent& event) {
  SampleContext context;
  context.position = known();
  context.counts = &counts_;
  if (output_size() < request_.sampling.min_tokens) context.blocked = blocked_;
  const auto token = sampler.sample(logits, request_.sampling, context);
  if (!token) return fail(token.error(), event);
  take(*token, event);
  const bool wanted = request_.logprobs || request_.top_logprobs > 0;
  if (!wanted || event.token == kNoToken) return;
  TokenLogprobs logprobs = sampler.logprobs(logits, *token, request_.top_logprobs);
  event.logprob = logprobs.logprob;
  event.top = std::move(logprobs.top);
}

void SequenceState::finish_scoring(TokenEvent& event) {
  if (only_scores() && rows_missing() == 0) end(FinishReason::kLength, event);
}

// The token joins the output, or ends it.
void SequenceState::take(std::int32_t token, TokenEvent& event) {
  const bool stops = contains(request_.stop_tokens, token);
  const bool ends = stops || (!request_.ignore_eos && tokenizer_.is_end_of_generation(token));
  if (!ends || (stops && request_.include_stop)) {
    tokens_.push_back(token);
    if (request_.sampling.has_penalties()) counts_.add_output(token);
    event.token = token;
    add_text(token, event);
  }
  if (ends) {
    event.stop_token = token;
    end(FinishReason::kStop, event);
  } else if (matcher_.matched() || output_size() == request_.max_tokens) {
    end(FinishReason::kLength, event);
  }
}

// Stop strings are looked for in what follows the first min_tokens tokens.
void SequenceState::add_text(std::int32_t token, TokenEvent& event) {
  const std::string text = decoder_.push(token);
  event.text += output_size() > request_.sampling.min_tokens ? matcher_.push(text) : text;
}

// `reason` holds unless a stop string ended the text, be it in the last bytes held back.
void SequenceState::end(FinishReason reason, TokenEvent& event) {
  finished_ = true;
  if (!matcher_.matched()) {
    event.text += matcher_.push(decoder_.flush());
    event.text += matcher_.flush();
  }
  event.finish = reason;
  if (const auto matched = matcher_.matched()) {
    event.finish = FinishReason::kStop;
    event.stop_string = static_cast<std::int32_t>(*matched);
  }
}

void SequenceState::fail(base::Error error, TokenEvent& event) {
  finished_ = true;
  broken_ = true;
  event.finish = FinishReason::kError;
  event.error = std::move(error);
}

}  // namespace conclave::engine
