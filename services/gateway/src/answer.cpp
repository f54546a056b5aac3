#include "answer.hpp"

#include <algorithm>
#include <utility>

namespace conclave::gateway {

using wire::FinishReason;

namespace {

constexpr std::string_view kEventBegin = "data: ";
constexpr std::string_view kEventEnd = "\n\n";
constexpr std::string_view kStreamEnd = "data: [DONE]\n\n";

std::string_view object_of(const AnswerFormat& format) {
  if (!format.chat) return "text_completion";
  return format.stream ? "chat.completion.chunk" : "chat.completion";
}

// Without its end, so that every chunk begins with a copy of it.
std::string head_of(const AnswerFormat& format, const AnswerHead& head) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("id").text(head.id).key("object").text(object_of(format));
  json.key("created").number(head.created).key("model").text(head.model);
  json.key("system_fingerprint");
  if (head.fingerprint.empty()) {
    json.null();
  } else {
    json.text(head.fingerprint);
  }
  text.push_back(',');
  return text;
}

void write_finish(JsonWriter& json, FinishReason finish) {
  json.key("finish_reason");
  if (finish == FinishReason::kNone) {
    json.null();
  } else {
    json.text(finish == FinishReason::kLength ? "length" : "stop");
  }
}

}  // namespace

Answer::Answer(const AnswerFormat& format, const AnswerHead& head,
               std::span<const wire::Generate> prompts)
    : format_(format),
      head_(head_of(format, head)),
      prompts_(prompts.size()),
      choices_(prompts.size() * format.choices),
      unfinished_(choices_.size()) {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    Prompt& prompt = prompts_[i];
    if (format.echo && prompts[i].kind == wire::PromptKind::kText) {
      prompt.says_text = false;
      prompt.piece.add_text(prompts[i].text);
    }
    if (format.return_token_ids && prompts[i].kind == wire::PromptKind::kTokens) {
      prompt.says_ids = false;
      for (const std::int32_t token : prompts[i].tokens) append_token_id(prompt.token_ids, token);
    }
  }
}

void Answer::accept(std::size_t prompt, std::uint32_t prompt_tokens) {
  prompts_[prompt].tokens = prompt_tokens;
}

Usage Answer::usage() const {
  Usage usage{.completion_tokens = completion_tokens_,
              .degraded_pairs = degraded_pairs_,
              .expert_pairs = expert_pairs_,
              .device_us = device_us_};
  for (const Prompt& prompt : prompts_) {
    usage.prompt_tokens += prompt.tokens;
    usage.cached_tokens += prompt.cached_tokens;
  }
  return usage;
}

void Answer::add(std::size_t prompt, const wire::StreamEvents& events, std::string& out) {
  for (const wire::TokenEvent& event : events.prompt) add_prompt_token(prompts_[prompt], event);
  const std::size_t first = prompt * format_.choices;
  for (const wire::TokenEvent& event : events.tokens) {
    // Of the router that began it: one that goes on with it says what it found.
    if (event.choice == 0 && !choices_[first].started) {
      prompts_[prompt].cached_tokens = event.cached_tokens;
    }
    if (event.choice < format_.choices) add_token(first + event.choice, event);
  }
  for (std::size_t index = first; index < first + format_.choices; ++index) {
    if (!std::exchange(choices_[index].changed, false)) continue;
    if (format_.stream) send(index, out);
  }
}

void Answer::add_prompt_token(Prompt& prompt, const wire::TokenEvent& event) {
  if (format_.return_token_ids && prompt.says_ids) append_token_id(prompt.token_ids, event.token);
  if (!format_.echo) return;
  if (prompt.says_text) prompt.piece.add_text(event.text);
  const bool scored = std::exchange(prompt.begun, true);
  prompt.piece.add_token(format_, event, scored, prompt.offset);
}

void Answer::add_token(std::size_t index, const wire::TokenEvent& event) {
  Choice& choice = choices_[index];
  if (choice.finish != FinishReason::kNone) return;
  if (!choice.started) start(index);
  choice.changed = true;
  degraded_pairs_ += event.degraded;
  expert_pairs_ += event.pairs;
  device_us_ += event.device_us;
  if (event.token >= 0) {
    ++completion_tokens_;
    choice.piece.add_token(format_, event, true, choice.offset);
  }
  choice.piece.add_text(event.text);
  choice.finish = event.finish;
  if (event.finish != FinishReason::kNone) --unfinished_;
}

void Answer::start(std::size_t index) {
  Choice& choice = choices_[index];
  choice.started = true;
  if (!format_.echo) return;
  choice.piece = prompt_of(index).piece;
  choice.offset = prompt_of(index).offset;
}

void Answer::send(std::size_t index, std::string& out) {
  if (format_.chat) {
    send_chat(index, out);
  } else {
    send_completion(index, out);
  }
  choices_[index].opened = true;
  choices_[index].piece = {};
}

template <class Write>
void Answer::chunk(std::string& out, Write write) {
  out += kEventBegin;
  out += head_;
  JsonWriter json(out);
  write(json);
  if (degraded_pairs_ > 0 && !std::exchange(said_degraded_, true)) {
    json.key("conclave_degraded").number(degraded_pairs_);
  }
  if (format_.continuous_usage) {
    json.key("usage");
    write_usage(json);
  } else if (format_.include_usage) {
    json.key("usage").null();
  }
  json.end_object();
  out += kEventEnd;
}

template <class WriteDelta>
void Answer::chat_chunk(std::size_t index, std::string& out, WriteDelta write_delta) {
  chunk(out, [&](JsonWriter& json) {
    json.key("choices").begin_array().begin_object().key("index").number(index);
    write_delta(json);
    json.end_object().end_array();
  });
}

void Answer::send_chat(std::size_t index, std::string& out) {
  const Choice& choice = choices_[index];
  if (!choice.opened) {
    chunk(out, [&](JsonWriter& json) {
      if (format_.return_token_ids) {
        json.key("prompt_token_ids").list(prompt_of(index).token_ids);
      }
      json.key("choices").begin_array().begin_object().key("index").number(index);
      json.key("delta").begin_object().key("role").text("assistant");
      json.key("content").text("").end_object();
      json.key("logprobs").null();
      write_finish(json, FinishReason::kNone);
      json.end_object().end_array();
    });
  }
  if (!choice.piece.empty()) {
    chat_chunk(index, out, [&](JsonWriter& json) {
      json.key("delta").begin_object().key("content").text(choice.piece.text()).end_object();
      json.key("logprobs");
      choice.piece.write_logprobs(format_, json);
      write_finish(json, FinishReason::kNone);
      if (format_.return_token_ids) choice.piece.write_token_ids(json);
    });
  }
  if (choice.finish != FinishReason::kNone) {
    chat_chunk(index, out, [&](JsonWriter& json) {
      json.key("delta").begin_object().end_object().key("logprobs").null();
      write_finish(json, choice.finish);
    });
  }
}

void Answer::send_completion(std::size_t index, std::string& out) {
  const Choice& choice = choices_[index];
  if (choice.piece.empty() && choice.finish == FinishReason::kNone) return;
  chunk(out, [&](JsonWriter& json) {
    json.key("choices").begin_array();
    write_completion_choice(json, index, !choice.opened);
    json.end_array();
  });
}

void Answer::write_completion_choice(JsonWriter& json, std::size_t index,
                                     bool with_prompt_ids) const {
  const Choice& choice = choices_[index];
  json.begin_object().key("index").number(index).key("text").text(choice.piece.text());
  json.key("logprobs");
  choice.piece.write_logprobs(format_, json);
  write_finish(json, choice.finish);
  if (format_.return_token_ids) {
    if (with_prompt_ids) json.key("prompt_token_ids").list(prompt_of(index).token_ids);
    choice.piece.write_token_ids(json);
  }
  json.end_object();
}

void Answer::write_chat_choice(JsonWriter& json, std::size_t index) const {
  const Choice& choice = choices_[index];
  json.begin_object().key("index").number(index);
  json.key("message").begin_object().key("role").text("assistant");
  json.key("content").text(choice.piece.text()).key("refusal").null().end_object();
  json.key("logprobs");
  choice.piece.write_logprobs(format_, json);
  write_finish(json, choice.finish);
  if (format_.return_token_ids) choice.piece.write_token_ids(json);
  json.end_object();
}

void Answer::write_usage(JsonWriter& json) const {
  const Usage counts = usage();
  json.begin_object().key("prompt_tokens").number(counts.prompt_tokens);
  json.key("completion_tokens").number(counts.completion_tokens);
  json.key("total_tokens").number(counts.prompt_tokens + counts.completion_tokens);
  json.key("prompt_tokens_details").begin_object();
  json.key("cached_tokens").number(counts.cached_tokens).end_object();
  if (counts.degraded_pairs > 0) json.key("conclave_degraded").number(counts.degraded_pairs);
  json.end_object();
}

void Answer::finish(std::string& out) const {
  if (format_.stream) {
    if (format_.include_usage) {
      out += kEventBegin;
      out += head_;
      JsonWriter json(out);
      json.key("choices").begin_array().end_array().key("usage");
      write_usage(json);
      json.end_object();
      out += kEventEnd;
    }
    out += kStreamEnd;
    return;
  }
  out += head_;
  JsonWriter json(out);
  if (format_.chat && format_.return_token_ids) {
    json.key("prompt_token_ids").list(prompts_.front().token_ids);
  }
  json.key("choices").begin_array();
  for (std::size_t index = 0; index < choices_.size(); ++index) {
    if (format_.chat) {
      write_chat_choice(json, index);
    } else {
      write_completion_choice(json, index, true);
    }
  }
  json.end_array().key("usage");
  write_usage(json);
  json.end_object();
}

std::string stream_error(const ApiError& error) {
  std::string event(kEventBegin);
  event += error_body(error);
  event += kEventEnd;
  return event;
}

}  // namespace conclave::gateway
