// `conclave chat`: a conversation with any OpenAI-compatible server, streamed to the terminal.
#include <poll.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "chat_stream.hpp"
#include "commands.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/http/client.hpp"
#include "interrupts.hpp"
#include "model_options.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

struct Options {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string model;
  std::string system;
  std::string prompt;
  std::optional<double> temperature;
  std::optional<std::uint32_t> max_tokens;
  std::optional<std::uint64_t> seed;
};

class Server {
 public:
  explicit Server(const Options& options) : url_(options.url) {
    while (url_.ends_with('/')) url_.pop_back();
    headers_.push_back({"Content-Type", "application/json"});
    if (!options.api_key.empty())
      headers_.push_back({"Authorization", "Bearer " + options.api_key});
  }

  [[nodiscard]] const std::string& url() const { return url_; }

  [[nodiscard]] base::Result<std::string> first_model() const {
    CONCLAVE_TRY(const http::Response response,
                 http::fetch({.url = url_ + "/v1/models", .headers = headers_}));
    if (response.status != 200) return fail(server_error(response).within(url_));
    boost::system::error_code error;
    const json::value body = json::parse(response.body, error);
    const json::value* id = error ? nullptr : body.find_pointer("/data/0/id", error);
    if (id == nullptr || !id->is_string()) {
      return fail(ErrorCode::kUnavailable, url_ + " serves no model yet");
    }
    return std::string(id->get_string());
  }

  // Until the whole answer is there, however long that takes, or `stop`.
  base::Status ask(const json::object& body, ChatStream& answer,
                   const std::stop_token& stop) const {
    base::Status told;
    const auto response = http::stream({.method = "POST",
                                        .url = url_ + "/v1/chat/completions",
                                        .headers = headers_,
                                        .body = json::serialize(body),
                                        .timeout = std::chrono::milliseconds(0),
                                        .stop = stop},
                                       [&](std::string_view chunk) {
                                         told = answer.push(chunk);
                                         return told.has_value();
                                       });
    if (!told) return told;
    if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "interrupted");
    if (!response) return fail(response.error());
    if (response->status != 200) return fail(server_error(*response));
    if (!answer.is_done()) return fail(ErrorCode::kUnavailable, "the server broke off its answer");
    return {};
  }

 private:
  std::string url_;
  std::vector<http::Header> headers_;
};

class Conversation {
 public:
  Conversation(const Options& options, const Server& server, std::string model,
               Interrupts& interrupts)
      : options_(options), server_(server), model_(std::move(model)), interrupts_(interrupts) {
    if (!options.system.empty()) add("system", options.system);
  }

  // Prints the answer as it comes. kCancelled: Ctrl-C ended it; what had come is part of the
  // conversation. After any other error it is as if nothing had been said.
  base::Status ask(const std::string& text) {
    if (!base::utf8::valid(text)) {
      return fail(ErrorCode::kInvalidArgument, "the message is not UTF-8");
    }
    add("user", text);
    ChatStream answer([](std::string_view piece) { std::cout << piece << std::flush; });
    const base::Status status = server_.ask(body(), answer, interrupts_.begin());
    interrupts_.done();
    if (!answer.answer().empty()) std::cout << std::endl;
    if (status && answer.finish_reason() == "length") {
      std::cerr << "(ended by the limit of tokens)\n";
    }
    if (status || status.error().code == ErrorCode::kCancelled) {
      add("assistant", answer.answer());
    } else {
      messages_.pop_back();
    }
    return status;
  }

 private:
  [[nodiscard]] json::object body() const {
    json::object body{{"model", model_}, {"messages", messages_}, {"stream", true}};
    if (options_.temperature) body["temperature"] = *options_.temperature;
    if (options_.max_tokens) body["max_tokens"] = *options_.max_tokens;
    if (options_.seed) body["seed"] = *options_.seed;
    return body;
  }

  void add(const char* role, const std::string& content) {
    messages_.push_back(json::object{{"role", role}, {"content", content}});
  }

  const Options& options_;
  const Server& server_;
  std::string model_;
  Interrupts& interrupts_;
  json::array messages_;
};

// Lines of standard input until it ends or one is empty. At a terminal an error is not the end.
base::Status converse(Conversation& conversation, bool terminal) {
  for (std::string line;;) {
    if (terminal) std::cout << "> " << std::flush;
    if (!std::getline(std::cin, line)) {
      if (terminal) std::cout << "\n";
      return {};
    }
    if (line.empty()) return {};
    const base::Status status = conversation.ask(line);
    if (status) continue;
    if (!terminal) return status;
    std::cerr << "(" << status.error().message << ")\n";
  }
}

base::Status chat(const Options& options) {
  Interrupts interrupts([] {
    // Only where it does not wait: who reads the output may be the one that is stuck.
    pollfd output{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&output, 1, 0) == 1) {
      [[maybe_unused]] const auto written = ::write(STDOUT_FILENO, "\n", 1);
    }
    ::_exit(kExitInterrupted);
  });
  const Server server(options);
  std::string model = options.model;
  if (model.empty()) {
    CONCLAVE_TRY(model, server.first_model());
  }
  Conversation conversation(options, server, model, interrupts);
  if (!options.prompt.empty()) {
    CONCLAVE_TRY(const std::string prompt, text_or_stdin(options.prompt));
    return conversation.ask(prompt);
  }
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) {
    std::cout << model << " at " << server.url()
              << ". An empty line or Ctrl-D ends; Ctrl-C stops an answer.\n";
  }
  return converse(conversation, terminal);
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("chat", "Talk to a running Conclave, or any OpenAI server");
  command->add_option("--url", options->url, "The server")
      ->capture_default_str()
      ->envname("CONCLAVE_URL");
  command->add_option("--api-key", options->api_key, "Sent as a bearer token")
      ->envname("CONCLAVE_API_KEY");
  command->add_option("--model", options->model, "The model (default: the first one it lists)");
  command->add_option("--system", options->system, "The system message");
  command->add_option("-p,--prompt", options->prompt,
                      "Ask this and end; - reads it from standard input");
  command->add_option("--temperature", options->temperature, "Randomness (default: the server's)")
      ->check(config::within(0.0, 100.0));
  command->add_option("-n,--max-tokens", options->max_tokens, "Most tokens of an answer")
      ->check(config::within(1u, 1u << 28));
  command->add_option("--seed", options->seed, "Same seed, same answer")
      ->check(config::within(std::uint64_t{0}, ~std::uint64_t{0}));
  command->callback([options, &action] { action = [options] { return chat(*options); }; });
}

}  // namespace conclave::cli
