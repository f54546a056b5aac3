#include "stream_book.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace conclave::router {

namespace {

wire::FinishReason wire_finish(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kNone:
      return wire::FinishReason::kNone;
    case engine::FinishReason::kStop:
      return wire::FinishReason::kStop;
    case engine::FinishReason::kLength:
      return wire::FinishReason::kLength;
    case engine::FinishReason::kCancelled:
      return wire::FinishReason::kCancelled;
    case engine::FinishReason::kError:
      return wire::FinishReason::kError;
  }
  return wire::FinishReason::kError;
}

// The log-probabilities of a token, and the pieces that go with them.
void add_logprobs(wire::TokenEvent& event, float logprob,
                  const std::vector<engine::TokenLogprob>& top,
                  const tokenizer::Tokenizer& tokenizer) {
  event.logprob = logprob;
  event.piece = tokenizer.piece(event.token);
  event.top.reserve(top.size());
  for (const engine::TokenLogprob& token : top) {
    event.top.push_back({token.id, token.logprob, std::string(tokenizer.piece(token.id))});
  }
}

}  // namespace

void StreamBook::open(StreamKey key, const std::vector<Running>& sequences,
                      std::span<const std::int32_t> prompt, const StreamOptions& options,
                      const tokenizer::Tokenizer& tokenizer) {
  Stream& stream = streams_[key];
  stream.unfinished = sequences.size();
  stream.logprobs = options.logprobs;
  stream.tokenizer = &tokenizer;
  spans_.opened(key, options.trace, sequences.size(), prompt.size());
  for (const auto& [choice, sequence] : sequences) {
    stream.sequences.push_back(sequence);
    choices_[sequence] = {key, choice};
  }
  if (!options.echo) return;
  stream.echo.emplace(tokenizer);
  stream.echo_missing = prompt.size();
  // With logprobs the others follow as they are scored; the first one has none.
  const std::size_t known = options.logprobs ? 1 : prompt.size();
  for (const std::int32_t token : prompt.first(known)) echo_token(stream, key, {.token = token});
}

void StreamBook::submitted(StreamKey stream, base::Result<wire::Accepted> outcome) {
  news_.submitted.push_back({stream, std::move(outcome)});
}

std::vector<engine::SequenceId> StreamBook::running(StreamKey key) const {
  std::vector<engine::SequenceId> running;
  const auto stream = streams_.find(key);
  if (stream == streams_.end()) return running;
  for (const engine::SequenceId id : stream->second.sequences) {
    if (choices_.contains(id)) running.push_back(id);
  }
  return running;
}

void StreamBook::collect(engine::TokenEvent& event) {
  const auto choice = choices_.find(event.id);
  if (choice == choices_.end()) return;
  const auto [key, index] = choice->second;
  Stream& stream = streams_.at(key);
  for (const engine::TokenLogprobs& token : event.prompt) echo_token(stream, key, token);

  const bool has_token = event.token != tokenizer::kNoToken;
  const bool finished = event.finish != engine::FinishReason::kNone;
  if (finished && index == 0) end_echo(stream, key);  // nobody else scores the prompt
  if (has_token) spans_.token(key);
  const std::string error =
      event.finish == engine::FinishReason::kError ? event.error.message : std::string();
  if (has_token || finished) {
    wire::TokenEvent out{.choice = index,
                         .token = event.token,
                         .text = std::move(event.text),
                         .finish = wire_finish(event.finish),
                         .error = std::move(event.error),
                         .cached_tokens = event.cached_tokens,
                         .degraded = event.degraded,
                         .pairs = event.pairs,
                         .device_us = event.device_us};
    if (stream.logprobs && has_token) {
      add_logprobs(out, event.logprob, event.top, *stream.tokenizer);
    }
    tell(stream, key, std::move(out));
  }
  if (!finished) return;
  choices_.erase(choice);
  if (--stream.unfinished > 0) return;
  spans_.closed(key, error);
  streams_.erase(key);
}

void StreamBook::fail_all(const base::Error& error) {
  for (auto& [key, stream] : streams_) end_echo(stream, key);
  for (const auto& [id, choice] : choices_) {
    events_of(choice.stream)
        .tokens.push_back(
            {.choice = choice.index, .finish = wire::FinishReason::kError, .error = error});
  }
  choices_.clear();
  streams_.clear();
  spans_.all_closed(error.message);
}

void StreamBook::echo_token(Stream& stream, StreamKey key, const engine::TokenLogprobs& token) {
  if (!stream.echo) return;
  wire::TokenEvent out{.token = token.token, .text = stream.echo->push(token.token)};
  const bool is_last = --stream.echo_missing == 0;
  if (is_last) out.text += stream.echo->flush();
  if (stream.logprobs) add_logprobs(out, token.logprob, token.top, *stream.tokenizer);
  events_of(key).prompt.push_back(std::move(out));
  if (is_last) end_echo(stream, key);
}

void StreamBook::end_echo(Stream& stream, StreamKey key) {
  stream.echo.reset();
  if (stream.held.empty()) return;
  auto& tokens = events_of(key).tokens;
  std::ranges::move(stream.held, std::back_inserter(tokens));
  stream.held.clear();
}

void StreamBook::tell(Stream& stream, StreamKey key, wire::TokenEvent event) {
  auto& events = stream.echo ? stream.held : events_of(key).tokens;
  events.push_back(std::move(event));
}

wire::StreamEvents& StreamBook::events_of(StreamKey stream) {
  const auto [at, is_new] = news_at_.try_emplace(stream, news_.events.size());
  if (is_new) news_.events.push_back({.stream = stream});
  return news_.events[at->second];
}

EngineNews StreamBook::take_news() {
  news_at_.clear();
  return std::exchange(news_, {});
}

}  // namespace conclave::router
