@0xf5116e9d8206fdfd;
# The conversation of gateway and router: prompts in, tokens out.
#
# Who sends. A gateway sends Generate (a request) to the router's `inference` actor. The router
# answers Accepted as soon as the prompt is tokenized and queued, or an error, and then there is no
# stream. From then on it casts TokenEvents to the `streams` actor of the gateway that asked, until
# every choice of the stream has had an event with a `finish`. The gateway may cast CancelStream at
# any time; choices that have not finished then finish as `cancelled`, or not at all if the router
# no longer knows the stream. TokenizeRequest and DetokenizeRequest are ordinary requests without a
# stream.
#
# Order. A stream's events follow Accepted, in the order of its tokens; the tokens of different
# choices interleave. One TokenEvents holds what one step gave to all streams of one gateway. With
# `echo` the prompt's tokens come before any other event of the stream, in order. Long
# prompts take several messages: a thousand tokens each, with all their alternatives, fit surely.
#
# Retries. Generate is not sent again by the fabric: a router that lost its link goes on until its
# own heartbeat says so. A gateway that lost the router, or is told by it that it cannot go on, asks
# a router again under a new `stream`, with the tokens so far in `resume`, the `version` and
# `maxTokens` of the first Accepted and the same `startedUnixS`: what follows is, bit for bit, what
# would have followed there, and nothing of the past is reported again. Tokenize and Detokenize may
# be repeated.
#
# Loss. Links do not lose single messages. When a link is lost, both ends forget the streams that
# went over it.
#
# Limits. Text: kPromptBytesMax. Tokens: kPromptTokensMax. Stops: kStopsMax of kStopBytesMax bytes.
# Biases: kLogitBiasMax. Salts: kCacheSaltBytesMax. Choices to resume: kChoicesMax, their tokens
# together kPromptTokensMax. Events of one message, prompt and new, all streams: kTokensPerMessageMax,
# and the message kMessageBytesMax. Numbers that allocate nothing by themselves (choices,
# topLogprobs, maxTokens, every float) are judged by the router, which answers kInvalidArgument.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

using Common = import "common.capnp";

enum PromptKind {
  unset @0;   # corrupt
  text @1;    # `text` is the whole prompt: special tokens in it are parsed
  tokens @2;  # `tokens` as they are
  chat @3;    # `text` is a JSON object: messages, tools, documents, chat_template_kwargs, ..
}

struct LogitBias {
  token @0 :Int32;
  bias @1 :Float32;  # added to the logit; -100 to 100
}

struct Sampling {
  # As engine::SamplingParams. Zero is a value here, never "the default": gateways fill in all.

  temperature @0 :Float32;        # 0: greedy
  topP @1 :Float32;               # 0 to 1; 1: off
  minP @2 :Float32;               # 0 to 1; 0: off
  topK @3 :UInt32;                # 0: off
  seed @4 :UInt64;                # any
  presencePenalty @5 :Float32;    # -2 to 2; 0: off
  frequencyPenalty @6 :Float32;   # -2 to 2; 0: off
  repetitionPenalty @7 :Float32;  # 1: off
  minTokens @8 :UInt32;           # before a choice may end by itself
  logitBias @9 :List(LogitBias);
}

struct ResumedChoice {
  # What a choice had given before its router was lost.

  tokens @0 :List(Int32);  # of its output, those that were reported, in order
  finished @1 :Bool;       # it has ended: nothing is computed or reported of it any more
}

struct Generate {
  # gateway -> router, answered by Accepted.

  stream @0 :UInt64;            # chosen by the gateway, unique in its incarnation
  gateway @1 :Text;             # node name: whose `streams` actor hears the events; kNameBytesMax
  requestId @2 :Text;           # the client's, for logs; at most kRequestIdBytesMax
  model @3 :Text;               # the name that the client asked for; at most kReferenceBytesMax
  kind @4 :PromptKind;
  text @5 :Text;                # of kinds text and chat
  tokens @6 :List(Int32);       # of kind tokens
  choices @7 :UInt32;           # `n`, 1 to kChoicesMax; choice i draws with seed + i
  maxTokens :union {            # of each choice
    open @8 :Void;              # what the context leaves
    count @9 :UInt32;           # 0 with echo: only the prompt is scored
  }
  sampling @10 :Sampling;       # never null
  stop @11 :List(Text);         # a choice ends before (or with, see includeStop) any of these
  stopTokens @12 :List(Int32);  # a choice ends with any of these; at most kStopsMax
  includeStop @13 :Bool;        # the stop string is part of the text
  ignoreEos @14 :Bool;          # the model's own end tokens do not end a choice
  logprobs @15 :Bool;           # report pieces and log probabilities
  topLogprobs @16 :UInt32;      # alternatives of each token, up to kTopLogprobsMax; 0: none
  echo @17 :Bool;               # report the prompt's tokens; with logprobs: theirs too
  trace @18 :Common.TraceContext;  # of the client's request; null: none
  priority @19 :Int32;          # lower goes first
  cacheSalt @20 :Text;          # prefixes are shared among equal salts; at most kCacheSaltBytesMax
  resume @21 :List(ResumedChoice);
  # Empty: from the beginning. Otherwise one for each choice, at least one of them not finished, and
  # `echo` is false: a prompt is reported before its output.
  version @22 :UInt32;          # of the model that began it, 1, 2, ..; another one is kUnavailable;
                                # 0: whichever is served
  startedUnixS @23 :Int64;      # seconds: what a chat template may print as today; 0: the router's
                                # clock
}

struct Accepted {
  # The request is queued or running.

  promptTokens @0 :UInt32;
  maxTokens @1 :UInt32;  # of each choice, what an open maxTokens has become, which depends on the
                         # router's cache; 0: not said, or none
  version @2 :UInt32;    # of the model; 0: not said
}

struct TokenChoice {
  token @0 :Int32;
  logprob @1 :Float32;  # natural logarithm
  piece @2 :Data;       # the token's bytes, not always whole characters; at most kPieceBytesMax
}

enum FinishReason {
  none @0;       # the choice goes on
  stop @1;       # end token, stop string or stop token
  length @2;     # maxTokens, or the context is full
  cancelled @3;
  error @4;      # see `error`
}

struct TokenEvent {
  # One token of one choice, or (token < 0) the end of a choice without one.

  choice @0 :UInt32;   # 0 to choices - 1
  token @1 :Int32;     # -1: none
  logprob @2 :Float32; # natural logarithm; only if logprobs were asked for
  piece @3 :Data;      # only if logprobs were asked for; at most kPieceBytesMax
  text @4 :Text;       # whole characters that became certain with this token; kPieceBytesMax
  top @5 :List(TokenChoice);  # likeliest first; at most kTopLogprobsMax
  finish @6 :FinishReason;    # not `none`: the last event of this choice
  error @7 :Common.Error;     # with finish `error`, otherwise null
  cachedTokens @8 :UInt32;    # of the prompt, tokens that were not computed for this choice; the
                              # same in all its events
  degraded @9 :UInt32;        # pairs of this choice that went to next-best experts, for want of the
                              # gate's choice, since its last event
  pairs @10 :UInt64;          # pairs that were computed for this choice since its last event
  deviceUs @11 :UInt64;       # microseconds of workers' devices that these took: its share of each call
}

struct StreamEvents {
  stream @0 :UInt64;
  prompt @1 :List(TokenEvent);  # the prompt's (next) tokens, if echo was asked for
  tokens @2 :List(TokenEvent);
}

struct TokenEvents {
  # router -> gateway, cast: what one step gave to all streams of that gateway.

  streams @0 :List(StreamEvents);
}

struct CancelStream {
  # gateway -> router, cast: nobody wants this stream any more. A stream is named by both fields.

  stream @0 :UInt64;
  gateway @1 :Text;  # node name; at most kNameBytesMax
}

struct TokenizeRequest {
  # gateway -> router, answered by TokenizeReply.

  model @0 :Text;         # at most kReferenceBytesMax
  kind @1 :PromptKind;    # text or chat, as in Generate
  text @2 :Text;
  addSpecial @3 :Bool;    # begin (and end) tokens, as the model asks for them
  parseSpecial @4 :Bool;  # special tokens in the text are themselves, not their letters
}

struct TokenizeReply {
  tokens @0 :List(Int32);
  pieces @1 :List(Data);      # of each token, its bytes; empty list: not given
  contextLength @2 :UInt32;   # of the model, tokens
}

struct DetokenizeRequest {
  # gateway -> router, answered by DetokenizeReply.

  model @0 :Text;  # at most kReferenceBytesMax
  tokens @1 :List(Int32);
}

struct DetokenizeReply {
  text @0 :Text;  # bad sequences are replaced by U+FFFD
}
