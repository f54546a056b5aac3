#include "router_actor.hpp"

#include <algorithm>
#include <caf/all.hpp>

#include "conclave/base/utf8.hpp"
#include "conclave/fabric/caf_error.hpp"
#include "conclave/model/kv_pool.hpp"
#include "conclave/wire/limits.hpp"
#include "token_messages.hpp"

namespace conclave::router {

using base::ErrorCode;
using base::fail;

namespace {

// Tokens that one answer gives back: the longest context of an open model; with their pieces they
// take about 40 MB of the 64 MB of a message.
constexpr std::size_t kTokenizedMax = std::size_t{1} << 20;

engine::SamplingParams sampling_of(const wire::Sampling& from) {
  engine::SamplingParams to;
  to.temperature = from.temperature;
  to.top_p = from.top_p;
  to.min_p = from.min_p;
  to.top_k = from.top_k;
  to.seed = from.seed;
  to.presence_penalty = from.presence_penalty;
  to.frequency_penalty = from.frequency_penalty;
  to.repetition_penalty = from.repetition_penalty;
  to.min_tokens = from.min_tokens;
  for (const wire::LogitBias& bias : from.logit_bias) {
    to.logit_bias.push_back({bias.token, bias.bias});
  }
  return to;
}

std::chrono::sys_seconds seconds_of(std::chrono::system_clock::time_point time) {
  return std::chrono::floor<std::chrono::seconds>(time);
}

std::size_t finished_choices(const wire::StreamEvents& events) {
  return static_cast<std::size_t>(std::ranges::count_if(
      events.tokens,
      [](const wire::TokenEvent& event) { return event.finish != wire::FinishReason::kNone; }));
}

// Choices that are to be computed: all, or those that had not finished elsewhere.
std::size_t choices_to_run(const wire::Generate& request) {
  if (request.resume.empty()) return request.choices;
  return static_cast<std::size_t>(
      std::ranges::count(request.resume, false, &wire::ResumedChoice::finished));
}

// What a chat template may print as today: the clock of who asked, so that a prompt is the same
// wherever it goes on; our own if that is not said, or no year of four digits.
std::chrono::sys_seconds today(const wire::Generate& request,
                               std::chrono::system_clock::time_point now) {
  constexpr std::int64_t kYear10000 = 253'402'300'800;
  if (request.started_unix_s <= 0 || request.started_unix_s >= kYear10000) return seconds_of(now);
  return std::chrono::sys_seconds(std::chrono::seconds(request.started_unix_s));
}

base::Status check_choices(const wire::Generate& request) {
  if (request.choices == 0 || request.choices > wire::kChoicesMax) {
    return fail(ErrorCode::kInvalidArgument, "n must be 1 to " + std::to_string(wire::kChoicesMax));
  }
  if (request.resume.empty()) return {};
  if (request.resume.size() != request.choices || choices_to_run(request) == 0) {
    return fail(ErrorCode::kInvalidArgument,
                "what is resumed must name every choice, and one that has not finished");
  }
  if (request.echo) {
    return fail(ErrorCode::kInvalidArgument, "a prompt is echoed before its output, not again");
  }
  return {};
}

base::Result<std::string> text_of(const tokenizer::Tokenizer& tokenizer,
                                  std::span<const std::int32_t> tokens) {
  std::size_t bytes = 0;
  for (const std::int32_t token : tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= tokenizer.vocab_size()) {
      return fail(ErrorCode::kInvalidArgument,
                  "token " + std::to_string(token) + " is not in the vocabulary");
    }
    bytes += tokenizer.piece(token).size();
  }
  const auto too_long = [] {
    return fail(ErrorCode::kInvalidArgument,
                "the text is longer than " + std::to_string(wire::kPromptBytesMax) + " bytes");
  };
  if (bytes > wire::kPromptBytesMax) return too_long();
  // What is no character becomes one of three bytes.
  std::string text = base::utf8::sanitize(tokenizer.decode(tokens, {.skip_special = false}));
  if (text.size() > wire::kPromptBytesMax) return too_long();
  return text;
}

}  // namespace

RouterActor::behavior_type RouterState::make_behavior() {
  self_->set_default_handler(caf::drop);
  return {[this](const wire::Generate& request) { return on_generate(request); },
          [this](const wire::CancelStream& cancel) { on_cancel(cancel); },
          [this](const wire::TokenizeRequest& request) { return on_tokenize(request); },
          [this](const wire::DetokenizeRequest& request) { return on_detokenize(request); },
          [this](const NewsMessage& news) { on_news(*news); },
          [this](const LinkDown& down) { on_link_down(down); }};
}

fabric::LinkId RouterState::sender() const { return fabric::link_of(self_->current_sender()); }

// What the client asks for, or what is left of the context, or of the cache where that is smaller.
base::Result<std::uint32_t> RouterState::max_tokens(const wire::Generate& request,
                                                    std::uint64_t prompt,
                                                    std::uint64_t context) const {
  if (request.max_tokens == 0u) return 0u;
  if (prompt >= context) {
    return fail(ErrorCode::kInvalidArgument, "the prompt has " + std::to_string(prompt) +
                                                 " tokens; the context of the model is " +
                                                 std::to_string(context));
  }
  if (request.max_tokens) return *request.max_tokens;
  const std::uint64_t blocks = parts_.kv_tokens_max / model::kKvBlockTokens;
  const std::uint64_t room = std::min(context, blocks * model::kKvBlockTokens);
  return static_cast<std::uint32_t>(room > prompt ? room - prompt : 1);
}

base::Result<EngineJob> RouterState::make_job(const wire::Generate& request,
                                              std::shared_ptr<const ServedModel> model) const {
  EngineJob job;
  job.model = std::move(model);
  engine::SequenceRequest& sequence = job.request;
  if (request.kind == wire::PromptKind::kTokens) {
    sequence.prompt = request.tokens;
  } else {
    CONCLAVE_TRY(sequence.prompt, job.model->prompts->tokens(request.kind, request.text,
                                                             today(request, parts_.wall_clock())));
  }
  CONCLAVE_TRY(sequence.max_tokens, max_tokens(request, sequence.prompt.size(),
                                               job.model->backbone->config().context_length));
  sequence.sampling = sampling_of(request.sampling);
  sequence.priority = request.priority;
  sequence.cache_salt = request.cache_salt;
  sequence.logprobs = request.logprobs;
  sequence.top_logprobs = request.top_logprobs;
  sequence.ignore_eos = request.ignore_eos;
  sequence.stop = request.stop;
  sequence.stop_tokens = request.stop_tokens;
  sequence.include_stop = request.include_stop;
  job.choices = request.choices;
  job.resume = request.resume;
  job.options = {.echo = request.echo, .logprobs = request.logprobs, .trace = request.trace};
  return job;
}

RouterState::Accepted RouterState::on_generate(const wire::Generate& request) {
  if (const base::Status valid = check_choices(request); !valid) {
    return fabric::to_caf(valid.error());
  }
  const LinkStream whose{sender(), request.stream};
  if (whose.first == 0) {
    return fabric::to_caf({ErrorCode::kFailedPrecondition, "streams need a link to a gateway"});
  }
  if (by_link_.contains(whose)) {
    return fabric::to_caf({ErrorCode::kInvalidArgument, "this stream is open already"});
  }
  const std::size_t choices = choices_to_run(request);
  if (const base::Status taken = parts_.admission.take(choices); !taken) {
    return fabric::to_caf(taken.error());
  }
  const auto refuse = [&](const base::Error& error) -> Accepted {
    parts_.admission.give_back(choices);
    return fabric::to_caf(error);
  };
  const auto found = parts_.engines.find(request.model, request.version);
  if (!found) return refuse(found.error());
  auto job = make_job(request, found->model);
  if (!job) return refuse(job.error());
  job->stream = next_stream_++;
  parts_.log.debug("request", {{"request_id", request.request_id},
                               {"gateway", request.gateway},
                               {"version", found->model->version.version},
                               {"prompt_tokens", job->request.prompt.size()},
                               {"choices", choices},
                               {"resumed", !request.resume.empty()}});
  const StreamKey key = job->stream;
  if (!found->engine->submit(std::move(*job))) {
    return refuse({ErrorCode::kUnavailable, "the model was replaced"});
  }
  auto promise = self_->make_response_promise<wire::Accepted>();
  open_.emplace(
      key,
      Open{.whose = whose, .engine = found->engine, .promise = promise, .unfinished = choices});
  by_link_.emplace(whose, key);
  return promise;
}

void RouterState::on_cancel(const wire::CancelStream& cancelled) {
  const auto stream = by_link_.find({sender(), cancelled.stream});
  if (stream != by_link_.end()) cancel(stream->second, open_.at(stream->second));
}

void RouterState::cancel(StreamKey key, Open& open) {
  if (!std::exchange(open.cancelled, true)) open.engine->cancel(key);
}

caf::result<wire::TokenizeReply> RouterState::on_tokenize(const wire::TokenizeRequest& request) {
  const auto found = parts_.engines.find(request.model, 0);
  if (!found) return fabric::to_caf(found.error());
  const ServedModel& model = *found->model;
  const PromptBuilder& prompts = *model.prompts;
  auto tokens = request.kind == wire::PromptKind::kText
                    ? prompts.encode(request.text, request.add_special, request.parse_special)
                    : prompts.tokens(request.kind, request.text, seconds_of(parts_.wall_clock()));
  if (!tokens) return fabric::to_caf(tokens.error());
  if (tokens->size() > kTokenizedMax) {
    return fabric::to_caf({ErrorCode::kInvalidArgument,
                           "the text has " + std::to_string(tokens->size()) + " tokens; at most " +
                               std::to_string(kTokenizedMax) + " are given back"});
  }
  wire::TokenizeReply reply;
  reply.tokens = std::move(*tokens);
  reply.pieces.reserve(reply.tokens.size());
  for (const std::int32_t token : reply.tokens) {
    reply.pieces.emplace_back(model.backbone->tokenizer().piece(token));
  }
  reply.context_length = model.backbone->config().context_length;
  return reply;
}

caf::result<wire::DetokenizeReply> RouterState::on_detokenize(
    const wire::DetokenizeRequest& request) {
  const auto found = parts_.engines.find(request.model, 0);
  if (!found) return fabric::to_caf(found.error());
  auto text = text_of(found->model->backbone->tokenizer(), request.tokens);
  if (!text) return fabric::to_caf(text.error());
  return wire::DetokenizeReply{std::move(*text)};
}

void RouterState::on_news(EngineNews& news) {
  for (EngineNews::Submitted& submitted : news.submitted) {
    Open& open = open_.at(submitted.stream);
    if (submitted.outcome) {
      open.promise.deliver(*submitted.outcome);
    } else {
      open.promise.deliver(fabric::to_caf(submitted.outcome.error()));
      finish(submitted.stream, open.unfinished);
    }
  }
  std::map<fabric::LinkId, TokenMessages> messages;
  std::vector<std::pair<StreamKey, std::size_t>> finished;
  for (wire::StreamEvents& events : news.events) {
    const StreamKey key = events.stream;
    const Open& open = open_.at(key);
    finished.emplace_back(key, finished_choices(events));
    if (!open.heard) continue;
    events.stream = open.whose.second;
    messages[open.whose.first].add(std::move(events));
  }
  for (auto& [link, packed] : messages) {
    const auto gateway = parts_.node.remote<fabric::StreamsActor>(link, fabric::kStreamsActor);
    for (wire::TokenEvents& message : packed.take()) self_->send(gateway, std::move(message));
  }
  // Last: a drain must not end before its last events are on their way.
  for (const auto& [key, choices] : finished) finish(key, choices);
}

// The engine tells of the end of every choice, and until then they count.
void RouterState::on_link_down(const LinkDown& down) {
  for (auto at = by_link_.lower_bound({down.link, 0});
       at != by_link_.end() && at->first.first == down.link;) {
    Open& open = open_.at(at->second);
    open.heard = false;
    cancel(at->second, open);
    at = by_link_.erase(at);
  }
}

void RouterState::finish(StreamKey key, std::size_t choices) {
  if (choices == 0) return;
  Open& open = open_.at(key);
  open.unfinished -= choices;
  parts_.admission.give_back(choices);
  if (open.unfinished > 0) return;
  if (open.heard) by_link_.erase(open.whose);
  open_.erase(key);
}

}  // namespace conclave::router
