// `conclave chat`: a conversation with any OpenAI-compatible server, streamed to the terminal.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <boost/json.hpp>
#include <iostream>
#include <memory>
#include <optional>

#include "commands.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/http/client.hpp"
#include "conclave/http/sse.hpp"
#include "model_options.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

struct Options {
  std::string url = "http://127.0.0.1:8000";
  std::string model;
  std::string system;
  std::string prompt;
  std::optional<double> temperature;
  std::optional<std::uint32_t> max_tokens;
  std::optional<std::uint64_t> seed;
};

// Ctrl-C ends the answer, not the program; at the prompt it ends the program.
std::atomic<std::stop_source*> g_answer{nullptr};

void on_interrupt(int) {
  if (std::stop_source* answer = g_answer.load()) {
    answer->request_stop();
  } else {
    ::_exit(0);
  }
}

// What the server says about an error, or its status.
base::Error server_error(const http::Response& response) {
  boost::system::error_code error;
  const json::value body = json::parse(response.body, error);
  const json::value* message = error ? nullptr : body.find_pointer("/error/message", error);
  const std::string status = "status " + std::to_string(response.status);
  return {ErrorCode::kUnavailable, message != nullptr && message->is_string()
                                       ? std::string(message->get_string()) + " (" + status + ")"
                                       : status};
}

base::Result<std::string> first_model(const Options& options) {
  CONCLAVE_TRY(const http::Response response, http::fetch({.url = options.url + "/v1/models"}));
  if (response.status != 200) return fail(server_error(response));
  boost::system::error_code error;
  const json::value body = json::parse(response.body, error);
  const json::value* id = error ? nullptr : body.find_pointer("/data/0/id", error);
  if (id == nullptr || !id->is_string()) {
    return fail(ErrorCode::kUnavailable, options.url + " serves no model yet");
  }
  return std::string(id->get_string());
}

class Conversation {
 public:
  Conversation(const Options& options, std::string model)
      : options_(options), model_(std::move(model)) {
    if (!options.system.empty()) add("system", options.system);
  }

  // Prints the answer as it comes.
  base::Status ask(const std::string& text) {
    add("user", text);
    json::object body{{"model", model_}, {"messages", messages_}, {"stream", true}};
    if (options_.temperature) body["temperature"] = *options_.temperature;
    if (options_.max_tokens) body["max_tokens"] = *options_.max_tokens;
    if (options_.seed) body["seed"] = *options_.seed;
    std::stop_source stop;
    g_answer = &stop;
    std::string answer;
    std::optional<base::Error> problem;
    http::SseParser parser;
    const auto on_chunk = [&](std::string_view chunk) {
      const auto events = parser.push(chunk);
      if (!events) problem = events.error();
      if (!events) return false;
      for (const http::SseEvent& event : *events) {
        if (!take(event.data, answer, problem)) return false;
      }
      return true;
    };
    auto response = http::stream({.method = "POST",
                                  .url = options_.url + "/v1/chat/completions",
                                  .headers = {{"Content-Type", "application/json"}},
                                  .body = json::serialize(body),
                                  .timeout = std::chrono::milliseconds(0),
                                  .stop = stop.get_token()},
                                 on_chunk);
    g_answer = nullptr;
    std::cout << "\n" << std::flush;
    if (problem) return fail(*problem);
    if (!response && response.error().code != ErrorCode::kCancelled) return fail(response.error());
    if (response && response->status != 200) return fail(server_error(*response));
    add("assistant", answer);
    return {};
  }

 private:
  void add(const char* role, const std::string& content) {
    messages_.push_back(json::object{{"role", role}, {"content", content}});
  }

  static bool take(const std::string& data, std::string& answer,
                   std::optional<base::Error>& problem) {
    if (data == "[DONE]") return true;
    boost::system::error_code error;
    const json::value event = json::parse(data, error);
    if (error) {
      problem = {ErrorCode::kCorruptData, "the server sent an event that is no JSON"};
      return false;
    }
    if (const json::value* message = event.find_pointer("/error/message", error)) {
      problem = {ErrorCode::kUnavailable, message->is_string() ? std::string(message->get_string())
                                                               : "the server reports an error"};
      return false;
    }
    const json::value* content = event.find_pointer("/choices/0/delta/content", error);
    if (content != nullptr && content->is_string()) {
      answer += content->get_string();
      std::cout << content->get_string().c_str() << std::flush;
    }
    return true;
  }

  const Options& options_;
  std::string model_;
  json::array messages_;
};

base::Status chat(const Options& options) {
  std::string model = options.model;
  if (model.empty()) {
    CONCLAVE_TRY(model, first_model(options));
  }
  ::signal(SIGINT, on_interrupt);
  Conversation conversation(options, model);
  if (!options.prompt.empty()) {
    CONCLAVE_TRY(const std::string prompt, text_or_stdin(options.prompt));
    return conversation.ask(prompt);
  }
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) {
    std::cout << model << " at " << options.url
              << ". An empty line or Ctrl-D ends; Ctrl-C stops an answer.\n";
  }
  for (std::string line;;) {
    if (terminal) std::cout << "> " << std::flush;
    if (!std::getline(std::cin, line) || line.empty()) return {};
    CONCLAVE_TRY_VOID(conversation.ask(line));
  }
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("chat", "Talk to a running Conclave, or any OpenAI server");
  command->add_option("--url", options->url, "The server")
      ->capture_default_str()
      ->envname("CONCLAVE_URL");
  command->add_option("--model", options->model, "The model (default: the first one it lists)");
  command->add_option("--system", options->system, "The system message");
  command->add_option("-p,--prompt", options->prompt,
                      "Ask this and end; - reads it from standard input");
  command->add_option("--temperature", options->temperature, "Randomness (default: the server's)")
      ->check(config::within(0.0, 100.0));
  command->add_option("-n,--max-tokens", options->max_tokens, "Most tokens of an answer")
      ->check(config::within(1u, 1u << 28));
  command->add_option("--seed", options->seed, "Same seed, same answer");
  command->callback([options, &action] { action = [options] { return chat(*options); }; });
}

}  // namespace conclave::cli
