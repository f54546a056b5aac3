#include "router_actor.hpp"

#include <caf/all.hpp>

#include "conclave/base/utf8.hpp"
#include "conclave/fabric/caf_error.hpp"

namespace conclave::router {

using base::ErrorCode;
using base::fail;

namespace {

engine::SamplingParams sampling_of(const wire::Sampling& from, std::uint32_t choice) {
  engine::SamplingParams to;
  to.temperature = from.temperature;
  to.top_p = from.top_p;
  to.min_p = from.min_p;
  to.top_k = from.top_k;
  to.seed = from.seed + choice;
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

bool ends_stream(const wire::StreamEvents& events, std::size_t& unfinished) {
  for (const wire::TokenEvent& event : events.tokens) {
    if (event.finish != wire::FinishReason::kNone && unfinished > 0) --unfinished;
  }
  return unfinished == 0;
}

}  // namespace

RouterActor::behavior_type RouterState::make_behavior() {
  self_->set_default_handler(caf::drop);
  return {[this](const wire::Generate& request) { return on_generate(request); },
          [this](const wire::CancelStream& cancel) { on_cancel(cancel); },
          [this](const wire::TokenizeRequest& request) { return on_tokenize(request); },
          [this](const wire::DetokenizeRequest& request) { return on_detokenize(request); },
          [this](const NewsMessage& news) { on_news(*news); },
          [this](const GatewayGone& gone) { on_gateway_gone(gone); }};
}

base::Result<std::shared_ptr<const ServedModel>> RouterState::model_for(
    const std::string& name) const {
  std::shared_ptr<const ServedModel> model = parts_.engine.model();
  if (!model) {
    const base::Status ready = parts_.engine.ready();
    return fail(ErrorCode::kUnavailable, ready ? "no model is loaded" : ready.error().message);
  }
  if (name != model->version.name) {
    return fail(ErrorCode::kNotFound,
                "this router serves " + model->version.name + ", not " + name);
  }
  return model;
}

base::Result<EngineJob> RouterState::make_job(const wire::Generate& request) const {
  if (parts_.draining()) return fail(ErrorCode::kUnavailable, "this router is draining");
  CONCLAVE_TRY(const auto model, model_for(request.model));
  engine::SequenceRequest sequence;
  if (request.kind == wire::PromptKind::kTokens) {
    sequence.prompt = request.tokens;
  } else {
    CONCLAVE_TRY(sequence.prompt, model->prompts->tokens(request.kind, request.text,
                                                         seconds_of(parts_.wall_clock())));
  }
  const std::size_t context = model->backbone->config().context_length;
  if (sequence.prompt.size() >= context) {
    return fail(ErrorCode::kInvalidArgument,
                "the prompt has " + std::to_string(sequence.prompt.size()) +
                    " tokens; the context of the model is " + std::to_string(context));
  }
  const auto room = static_cast<std::uint32_t>(context - sequence.prompt.size());
  sequence.max_tokens = request.max_tokens.value_or(room);
  sequence.logprobs = request.logprobs;
  sequence.top_logprobs = request.top_logprobs;
  sequence.ignore_eos = request.ignore_eos;
  sequence.stop = request.stop;
  sequence.stop_tokens = request.stop_tokens;
  sequence.include_stop = request.include_stop;

  EngineJob job{.echo = request.echo, .logprobs = request.logprobs};
  for (std::uint32_t choice = 0; choice < request.choices; ++choice) {
    engine::SequenceRequest one = sequence;
    one.sampling = sampling_of(request.sampling, choice);
    one.prompt_logprobs = choice == 0 && request.echo && request.logprobs;
    job.choices.push_back(std::move(one));
  }
  return job;
}

RouterState::Accepted RouterState::on_generate(const wire::Generate& request) {
  if (request.choices == 0) {
    return fabric::to_caf({ErrorCode::kInvalidArgument, "n must be at least 1"});
  }
  const GatewayStream whose{request.gateway, request.stream};
  if (by_gateway_.contains(whose)) {
    return fabric::to_caf({ErrorCode::kInvalidArgument, "this stream is open already"});
  }
  auto job = make_job(request);
  if (!job) return fabric::to_caf(job.error());
  job->stream = next_stream_++;
  parts_.log.debug("request", {{"request_id", request.request_id},
                               {"gateway", request.gateway},
                               {"prompt_tokens", job->choices.front().prompt.size()},
                               {"choices", request.choices}});
  auto promise = self_->make_response_promise<wire::Accepted>();
  open_.emplace(job->stream, Open{whose, promise, job->choices.size()});
  by_gateway_.emplace(whose, job->stream);
  parts_.engine.submit(std::move(*job));
  return promise;
}

void RouterState::on_cancel(const wire::CancelStream& cancel) {
  const auto stream = by_gateway_.find({cancel.gateway, cancel.stream});
  if (stream != by_gateway_.end()) parts_.engine.cancel(stream->second);
}

caf::result<wire::TokenizeReply> RouterState::on_tokenize(const wire::TokenizeRequest& request) {
  const auto model = model_for(request.model);
  if (!model) return fabric::to_caf(model.error());
  const PromptBuilder& prompts = *(*model)->prompts;
  auto tokens = request.kind == wire::PromptKind::kText
                    ? prompts.encode(request.text, request.add_special, request.parse_special)
                    : prompts.tokens(request.kind, request.text, seconds_of(parts_.wall_clock()));
  if (!tokens) return fabric::to_caf(tokens.error());
  wire::TokenizeReply reply;
  reply.tokens = std::move(*tokens);
  for (const std::int32_t token : reply.tokens) {
    reply.pieces.emplace_back((*model)->backbone->tokenizer().piece(token));
  }
  reply.context_length = (*model)->backbone->config().context_length;
  return reply;
}

caf::result<wire::DetokenizeReply> RouterState::on_detokenize(
    const wire::DetokenizeRequest& request) {
  const auto model = model_for(request.model);
  if (!model) return fabric::to_caf(model.error());
  const tokenizer::Tokenizer& tokenizer = (*model)->backbone->tokenizer();
  for (const std::int32_t token : request.tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= tokenizer.vocab_size()) {
      return fabric::to_caf({ErrorCode::kInvalidArgument,
                                   "token " + std::to_string(token) + " is not in the vocabulary"});
    }
  }
  return wire::DetokenizeReply{
      base::utf8::sanitize(tokenizer.decode(request.tokens, {.skip_special = false}))};
}

void RouterState::on_news(EngineNews& news) {
  for (EngineNews::Submitted& submitted : news.submitted) {
    const auto open = open_.find(submitted.stream);
    if (open == open_.end()) continue;
    if (submitted.outcome) {
      open->second.promise.deliver(*submitted.outcome);
    } else {
      open->second.promise.deliver(fabric::to_caf(submitted.outcome.error()));
      close(submitted.stream);
    }
  }
  // One message a gateway.
  std::map<std::string, wire::TokenEvents> by_gateway;
  for (wire::StreamEvents& events : news.events) {
    const auto open = open_.find(events.stream);
    if (open == open_.end()) continue;
    const StreamKey key = events.stream;
    const bool ends = ends_stream(events, open->second.unfinished);
    events.stream = open->second.whose.second;
    by_gateway[open->second.whose.first].streams.push_back(std::move(events));
    if (ends) close(key);
  }
  for (auto& [gateway, events] : by_gateway) {
    const fabric::LinkId link = parts_.node.find(gateway);
    self_->send(parts_.node.remote<fabric::StreamsActor>(link, fabric::kStreamsActor),
                std::move(events));
  }
}

void RouterState::on_gateway_gone(const GatewayGone& gone) {
  for (auto at = by_gateway_.lower_bound({gone.node, 0});
       at != by_gateway_.end() && at->first.first == gone.node;) {
    parts_.engine.cancel(at->second);
    open_.erase(at->second);
    at = by_gateway_.erase(at);
  }
}

void RouterState::close(StreamKey stream) {
  const auto open = open_.find(stream);
  by_gateway_.erase(open->second.whose);
  open_.erase(open);
}

}  // namespace conclave::router
