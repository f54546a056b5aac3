// `conclave generate`: text from one prompt, in this process, without services.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>

#include "commands.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/engine/generator.hpp"
#include "model_options.hpp"
#include "output.hpp"
#include "prompt.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using SteadyClock = std::chrono::steady_clock;

// Without -n: enough for an answer, short enough for a model that never ends.
constexpr std::uint32_t kDefaultTokens = 256;

struct Options {
  ModelOptions model;
  std::string prompt;
  std::string system;
  bool chat = false;
  std::optional<std::uint32_t> max_tokens;
  engine::SequenceRequest request;
  OutputFormat format = OutputFormat::kTable;
  bool stats = false;
};

struct Timing {
  double load_s = 0.0;
  double first_token_s = 0.0;  // from the start of computing
  double total_s = 0.0;
};

double seconds_since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

json::array logprobs_json(const engine::Generation& generation) {
  json::array list;
  for (const engine::TokenLogprobs& at : generation.logprobs) list.push_back(at.logprob);
  return list;
}

json::array top_logprobs_json(const engine::Generation& generation) {
  json::array list;
  for (const engine::TokenLogprobs& at : generation.logprobs) {
    json::array entry;
    for (const engine::TokenLogprob& token : at.top) {
      entry.push_back(json::object{{"id", token.id}, {"logprob", token.logprob}});
    }
    list.push_back(std::move(entry));
  }
  return list;
}

// Tokens a second of decoding: the first token belongs to the prompt.
double decode_rate(const engine::Generation& generation, const Timing& timing) {
  const double decode_s = timing.total_s - timing.first_token_s;
  const auto tokens = static_cast<double>(generation.tokens.size());
  return tokens > 1.0 && decode_s > 0.0 ? (tokens - 1.0) / decode_s : 0.0;
}

double prompt_rate(const engine::SequenceRequest& request, const Timing& timing) {
  return timing.first_token_s > 0.0
             ? static_cast<double>(request.prompt.size()) / timing.first_token_s
             : 0.0;
}

json::object result_json(const Options& options, const engine::Generation& generation,
                         const Timing& timing) {
  const engine::SequenceRequest& request = options.request;
  const auto& prompt = request.prompt;
  json::object result{
      {"prompt_tokens", json::array(prompt.begin(), prompt.end())},
      {"tokens", json::array(generation.tokens.begin(), generation.tokens.end())},
      {"text", generation.text},
      {"finish_reason", engine::to_string(generation.finish)},
      {"timing", json::object{{"load_s", timing.load_s},
                              {"first_token_s", timing.first_token_s},
                              {"total_s", timing.total_s},
                              {"prompt_tokens_per_s", prompt_rate(request, timing)},
                              {"decode_tokens_per_s", decode_rate(generation, timing)}}}};
  if (request.logprobs || request.top_logprobs > 0) result["logprobs"] = logprobs_json(generation);
  if (request.top_logprobs > 0) result["top_logprobs"] = top_logprobs_json(generation);
  return result;
}

base::Status generate(Options& options) {
  CONCLAVE_TRY(const std::string prompt, text_or_stdin(options.prompt));
  const auto load_start = SteadyClock::now();
  CONCLAVE_TRY(const auto model, load_model(options.model));
  Timing timing;
  timing.load_s = seconds_since(load_start);
  if (options.chat) {
    CONCLAVE_TRY(const ChatPrompts chat, ChatPrompts::create(*model));
    CONCLAVE_TRY(options.request.prompt, chat.render(options.system, prompt));
  } else {
    CONCLAVE_TRY(options.request.prompt, plain_prompt(*model, prompt));
  }

  const std::size_t context = model->config().context_length;
  const std::size_t used = std::min(options.request.prompt.size(), context);
  options.request.max_tokens = options.max_tokens.value_or(
      static_cast<std::uint32_t>(std::min<std::size_t>(kDefaultTokens, context - used)));

  const bool stream = options.format == OutputFormat::kTable;
  options.request.decode.strip_leading_space = true;  // the continuation is printed by itself
  const auto start = SteadyClock::now();
  const auto on_event = [&](std::size_t, const engine::TokenEvent& event) {
    const bool first = timing.first_token_s == 0.0 && event.token != tokenizer::kNoToken;
    if (first) timing.first_token_s = seconds_since(start);
    if (stream) std::cout << event.text << std::flush;
    return true;
  };
  engine::Generator generator(*model, options.model.kv_type);
  CONCLAVE_TRY(const auto generations, generator.run(std::span(&options.request, 1), on_event));
  timing.total_s = seconds_since(start);

  const engine::Generation& generation = generations.front();
  if (stream) {
    std::cout << "\n";
  } else {
    print_json(result_json(options, generation, timing));
  }
  if (options.stats) {
    std::cerr << options.request.prompt.size() << " prompt tokens at "
              << fixed(prompt_rate(options.request, timing), 1) << "/s, "
              << generation.tokens.size() << " new tokens at "
              << fixed(decode_rate(generation, timing), 1) << "/s, load " << fixed(timing.load_s, 2)
              << " s\n";
  }
  return {};
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a prompt, in this process, without services");
  add_model_options(*command, options->model);
  command->add_option("prompt,-p,--prompt", options->prompt, "The prompt, or - for standard input")
      ->required();
  command
      ->add_option("-n,--max-tokens", options->max_tokens,
                   "Most tokens to generate (default: 256, or what the context leaves)")
      ->check(config::within(0u, 1u << 28));
  config::bind(*command, options->request.sampling);
  command
      ->add_option("--stop", options->request.stop,
                   "A string that ends the text and is left out of it; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--logprobs", options->request.logprobs,
                    "Report the log-probability of each token (with -o json)");
  command
      ->add_option("--top-logprobs", options->request.top_logprobs,
                   "Report the K most likely tokens at each step too (with -o json)")
      ->check(config::within(0u, engine::kTopLogprobsMax))
      ->capture_default_str();
  command->add_flag("--ignore-eos", options->request.ignore_eos,
                    "Go on past tokens that end the text");
  command->add_flag("--chat", options->chat,
                    "Take the prompt as a user's message and render the model's chat template");
  command->add_option("--system", options->system, "With --chat: the system message");
  command->add_flag("--stats", options->stats, "Print speeds on standard error");
  add_output_option(*command, options->format);
  command->callback([options, &action] { action = [options] { return generate(*options); }; });
}

}  // namespace conclave::cli
