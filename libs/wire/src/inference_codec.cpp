#include "codecs.hpp"

namespace conclave::wire::codec {

using base::ErrorCode;

namespace {

void write(Encoder& encoder, schema::Sampling::Builder to, const Sampling& from) {
  to.setTemperature(from.temperature);
  to.setTopP(from.top_p);
  to.setMinP(from.min_p);
  to.setTopK(from.top_k);
  to.setSeed(from.seed);
  to.setPresencePenalty(from.presence_penalty);
  to.setFrequencyPenalty(from.frequency_penalty);
  to.setRepetitionPenalty(from.repetition_penalty);
  to.setMinTokens(from.min_tokens);
  auto biases = to.initLogitBias(encoder.size(from.logit_bias.size(), kLogitBiasMax, "logit_bias"));
  for (capnp::uint i = 0; i < biases.size(); ++i) {
    biases[i].setToken(from.logit_bias[i].token);
    biases[i].setBias(from.logit_bias[i].bias);
  }
}

void read(Decoder& decoder, schema::Sampling::Reader from, Sampling& to) {
  to.temperature = from.getTemperature();
  to.top_p = from.getTopP();
  to.min_p = from.getMinP();
  to.top_k = from.getTopK();
  to.seed = from.getSeed();
  to.presence_penalty = from.getPresencePenalty();
  to.frequency_penalty = from.getFrequencyPenalty();
  to.repetition_penalty = from.getRepetitionPenalty();
  to.min_tokens = from.getMinTokens();
  const auto biases = from.getLogitBias();
  decoder.elements(biases.size(), kLogitBiasMax, "logit_bias");
  to.logit_bias.reserve(biases.size());
  for (const auto bias : biases) to.logit_bias.push_back({bias.getToken(), bias.getBias()});
}

void write(Encoder& encoder, schema::TokenEvent::Builder to, const TokenEvent& from) {
  to.setChoice(from.choice);
  to.setToken(from.token);
  to.setLogprob(from.logprob);
  if (!from.piece.empty()) to.setPiece(encoder.data(from.piece, kPieceBytesMax, "event.piece"));
  if (!from.text.empty()) to.setText(encoder.text(from.text, kPieceBytesMax, "event.text"));
  if (!from.top.empty()) {
    auto top = to.initTop(encoder.size(from.top.size(), kTopLogprobsMax, "event.top"));
    for (capnp::uint i = 0; i < top.size(); ++i) {
      top[i].setToken(from.top[i].token);
      top[i].setLogprob(from.top[i].logprob);
      top[i].setPiece(encoder.data(from.top[i].piece, kPieceBytesMax, "event.top.piece"));
    }
  }
  to.setFinish(static_cast<schema::FinishReason>(from.finish));
  if (from.error != base::Error{}) write(encoder, to.initError(), from.error);
  to.setCachedTokens(from.cached_tokens);
  to.setDegraded(from.degraded);
  to.setPairs(from.pairs);
  to.setDeviceUs(from.device_us);
}

void read(Decoder& decoder, schema::TokenEvent::Reader from, TokenEvent& to) {
  to.choice = from.getChoice();
  to.token = from.getToken();
  to.logprob = from.getLogprob();
  to.piece = decoder.data(from.getPiece(), kPieceBytesMax, "event.piece");
  to.text = decoder.text(from.getText(), kPieceBytesMax, "event.text");
  const auto top = from.getTop();
  decoder.elements(top.size(), kTopLogprobsMax, "event.top");
  to.top.reserve(top.size());
  for (const auto choice : top) {
    to.top.push_back({choice.getToken(), choice.getLogprob(),
                      decoder.data(choice.getPiece(), kPieceBytesMax, "event.top.piece")});
  }
  to.finish = decoder.enumerant_or_zero(from.getFinish(), FinishReason::kError, "event.finish");
  if (from.hasError()) read(decoder, from.getError(), to.error);
  to.cached_tokens = from.getCachedTokens();
  to.degraded = from.getDegraded();
  to.pairs = from.getPairs();
  to.device_us = from.getDeviceUs();
}

void read_max_tokens(schema::Generate::MaxTokens::Reader from, std::optional<std::uint32_t>& to) {
  switch (from.which()) {
    case schema::Generate::MaxTokens::OPEN:
      return;
    case schema::Generate::MaxTokens::COUNT:
      to = from.getCount();
      return;
  }
  refuse(ErrorCode::kUnimplemented, "max_tokens", "neither open nor a count");
}

void write_resume(Encoder& encoder, schema::Generate::Builder to,
                  const std::vector<ResumedChoice>& from) {
  if (from.empty()) return;
  auto choices = to.initResume(encoder.size(from.size(), kChoicesMax, "resume"));
  std::size_t left = kPromptTokensMax;
  for (capnp::uint i = 0; i < choices.size(); ++i) {
    const std::vector<std::int32_t>& tokens = from[i].tokens;
    encoder.numbers(choices[i].initTokens(encoder.size(tokens.size(), left, "resume.tokens")),
                    tokens);
    left -= tokens.size();
    choices[i].setFinished(from[i].finished);
  }
}

void read_resume(Decoder& decoder, schema::Generate::Reader from, std::vector<ResumedChoice>& to) {
  const auto choices = from.getResume();
  decoder.elements(choices.size(), kChoicesMax, "resume");
  to.resize(choices.size());
  std::size_t left = kPromptTokensMax;
  for (capnp::uint i = 0; i < choices.size(); ++i) {
    decoder.numbers(choices[i].getTokens(), to[i].tokens, left, "resume.tokens");
    left -= to[i].tokens.size();
    to[i].finished = choices[i].getFinished();
  }
}

template <class List>
void write_events(Encoder& encoder, List to, const std::vector<TokenEvent>& from) {
  for (capnp::uint i = 0; i < to.size(); ++i) write(encoder, to[i], from[i]);
}

template <class List>
void read_events(Decoder& decoder, List from, std::vector<TokenEvent>& to,
                 std::size_t& events_left) {
  decoder.elements(from.size(), events_left, "events");
  events_left -= from.size();
  to.resize(from.size());
  for (capnp::uint i = 0; i < from.size(); ++i) read(decoder, from[i], to[i]);
}

}  // namespace

void write(Encoder& encoder, schema::Generate::Builder to, const Generate& from) {
  to.setStream(from.stream);
  to.setGateway(encoder.text(from.gateway, kNameBytesMax, "gateway"));
  to.setRequestId(encoder.text(from.request_id, kRequestIdBytesMax, "request_id"));
  to.setModel(encoder.text(from.model, kReferenceBytesMax, "model"));
  to.setKind(static_cast<schema::PromptKind>(from.kind));
  to.setText(encoder.text(from.text, kPromptBytesMax, "text"));
  encoder.numbers(to.initTokens(encoder.size(from.tokens.size(), kPromptTokensMax, "tokens")),
                  from.tokens);
  to.setChoices(from.choices);
  if (from.max_tokens) to.getMaxTokens().setCount(*from.max_tokens);
  write(encoder, to.initSampling(), from.sampling);
  auto stop = to.initStop(encoder.size(from.stop.size(), kStopsMax, "stop"));
  for (capnp::uint i = 0; i < stop.size(); ++i) {
    stop.set(i, encoder.text(from.stop[i], kStopBytesMax, "stop"));
  }
  encoder.numbers(
      to.initStopTokens(encoder.size(from.stop_tokens.size(), kStopsMax, "stop_tokens")),
      from.stop_tokens);
  to.setIncludeStop(from.include_stop);
  to.setIgnoreEos(from.ignore_eos);
  to.setLogprobs(from.logprobs);
  to.setTopLogprobs(from.top_logprobs);
  to.setEcho(from.echo);
  if (from.trace != TraceContext{}) write(encoder, to.initTrace(), from.trace);
  to.setPriority(from.priority);
  if (!from.cache_salt.empty()) {
    to.setCacheSalt(encoder.text(from.cache_salt, kCacheSaltBytesMax, "cache_salt"));
  }
  write_resume(encoder, to, from.resume);
  to.setVersion(from.version);
  to.setStartedUnixS(from.started_unix_s);
}

void read(Decoder& decoder, schema::Generate::Reader from, Generate& to) {
  to.stream = from.getStream();
  to.gateway = decoder.text(from.getGateway(), kNameBytesMax, "gateway");
  to.request_id = decoder.text(from.getRequestId(), kRequestIdBytesMax, "request_id");
  to.model = decoder.text(from.getModel(), kReferenceBytesMax, "model");
  to.kind = decoder.enumerant(from.getKind(), PromptKind::kChat, "kind");
  to.text = decoder.text(from.getText(), kPromptBytesMax, "text");
  decoder.numbers(from.getTokens(), to.tokens, kPromptTokensMax, "tokens");
  to.choices = from.getChoices();
  read_max_tokens(from.getMaxTokens(), to.max_tokens);
  read(decoder, from.getSampling(), to.sampling);
  decoder.texts(from.getStop(), to.stop, kStopsMax, kStopBytesMax, "stop");
  decoder.numbers(from.getStopTokens(), to.stop_tokens, kStopsMax, "stop_tokens");
  to.include_stop = from.getIncludeStop();
  to.ignore_eos = from.getIgnoreEos();
  to.logprobs = from.getLogprobs();
  to.top_logprobs = from.getTopLogprobs();
  to.echo = from.getEcho();
  if (from.hasTrace()) read(decoder, from.getTrace(), to.trace);
  to.priority = from.getPriority();
  to.cache_salt = decoder.text(from.getCacheSalt(), kCacheSaltBytesMax, "cache_salt");
  read_resume(decoder, from, to.resume);
  to.version = from.getVersion();
  to.started_unix_s = from.getStartedUnixS();
}

void write(Encoder&, schema::Accepted::Builder to, const Accepted& from) {
  to.setPromptTokens(from.prompt_tokens);
  to.setMaxTokens(from.max_tokens);
  to.setVersion(from.version);
}

void read(Decoder&, schema::Accepted::Reader from, Accepted& to) {
  to.prompt_tokens = from.getPromptTokens();
  to.max_tokens = from.getMaxTokens();
  to.version = from.getVersion();
}

void write(Encoder& encoder, schema::TokenEvents::Builder to, const TokenEvents& from) {
  std::size_t events = 0;
  for (const StreamEvents& stream : from.streams) {
    events += stream.prompt.size() + stream.tokens.size();
  }
  encoder.size(events, kTokensPerMessageMax, "events");
  auto streams = to.initStreams(encoder.size(from.streams.size(), kTokensPerMessageMax, "streams"));
  for (capnp::uint i = 0; i < streams.size(); ++i) {
    const StreamEvents& stream = from.streams[i];
    streams[i].setStream(stream.stream);
    const auto sized = [](const std::vector<TokenEvent>& list) {
      return static_cast<capnp::uint>(list.size());  // checked with their sum
    };
    if (!stream.prompt.empty()) {
      write_events(encoder, streams[i].initPrompt(sized(stream.prompt)), stream.prompt);
    }
    if (!stream.tokens.empty()) {
      write_events(encoder, streams[i].initTokens(sized(stream.tokens)), stream.tokens);
    }
  }
}

void read(Decoder& decoder, schema::TokenEvents::Reader from, TokenEvents& to) {
  const auto streams = from.getStreams();
  decoder.elements(streams.size(), kTokensPerMessageMax, "streams");
  to.streams.resize(streams.size());
  std::size_t events_left = kTokensPerMessageMax;
  for (capnp::uint i = 0; i < streams.size(); ++i) {
    to.streams[i].stream = streams[i].getStream();
    read_events(decoder, streams[i].getPrompt(), to.streams[i].prompt, events_left);
    read_events(decoder, streams[i].getTokens(), to.streams[i].tokens, events_left);
  }
}

void write(Encoder& encoder, schema::CancelStream::Builder to, const CancelStream& from) {
  to.setStream(from.stream);
  to.setGateway(encoder.text(from.gateway, kNameBytesMax, "gateway"));
}

void read(Decoder& decoder, schema::CancelStream::Reader from, CancelStream& to) {
  to.stream = from.getStream();
  to.gateway = decoder.text(from.getGateway(), kNameBytesMax, "gateway");
}

void write(Encoder& encoder, schema::TokenizeRequest::Builder to, const TokenizeRequest& from) {
  to.setModel(encoder.text(from.model, kReferenceBytesMax, "model"));
  to.setKind(static_cast<schema::PromptKind>(from.kind));
  to.setText(encoder.text(from.text, kPromptBytesMax, "text"));
  to.setAddSpecial(from.add_special);
  to.setParseSpecial(from.parse_special);
}

void read(Decoder& decoder, schema::TokenizeRequest::Reader from, TokenizeRequest& to) {
  to.model = decoder.text(from.getModel(), kReferenceBytesMax, "model");
  to.kind = decoder.enumerant(from.getKind(), PromptKind::kChat, "kind");
  to.text = decoder.text(from.getText(), kPromptBytesMax, "text");
  to.add_special = from.getAddSpecial();
  to.parse_special = from.getParseSpecial();
}

void write(Encoder& encoder, schema::TokenizeReply::Builder to, const TokenizeReply& from) {
  encoder.numbers(to.initTokens(encoder.size(from.tokens.size(), kPromptTokensMax, "tokens")),
                  from.tokens);
  auto pieces = to.initPieces(encoder.size(from.pieces.size(), kPromptTokensMax, "pieces"));
  for (capnp::uint i = 0; i < pieces.size(); ++i) {
    pieces.set(i, encoder.data(from.pieces[i], kPieceBytesMax, "pieces"));
  }
  to.setContextLength(from.context_length);
}

void read(Decoder& decoder, schema::TokenizeReply::Reader from, TokenizeReply& to) {
  decoder.numbers(from.getTokens(), to.tokens, kPromptTokensMax, "tokens");
  const auto pieces = from.getPieces();
  decoder.elements(pieces.size(), kPromptTokensMax, "pieces");
  to.pieces.reserve(pieces.size());
  for (const auto piece : pieces) {
    to.pieces.push_back(decoder.data(piece, kPieceBytesMax, "pieces"));
  }
  to.context_length = from.getContextLength();
}

void write(Encoder& encoder, schema::DetokenizeRequest::Builder to, const DetokenizeRequest& from) {
  to.setModel(encoder.text(from.model, kReferenceBytesMax, "model"));
  encoder.numbers(to.initTokens(encoder.size(from.tokens.size(), kPromptTokensMax, "tokens")),
                  from.tokens);
}

void read(Decoder& decoder, schema::DetokenizeRequest::Reader from, DetokenizeRequest& to) {
  to.model = decoder.text(from.getModel(), kReferenceBytesMax, "model");
  decoder.numbers(from.getTokens(), to.tokens, kPromptTokensMax, "tokens");
}

void write(Encoder& encoder, schema::DetokenizeReply::Builder to, const DetokenizeReply& from) {
  to.setText(encoder.text(from.text, kPromptBytesMax, "text"));
}

void read(Decoder& decoder, schema::DetokenizeReply::Reader from, DetokenizeReply& to) {
  to.text = decoder.text(from.getText(), kPromptBytesMax, "text");
}

}  // namespace conclave::wire::codec
