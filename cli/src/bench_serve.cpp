#include "bench_serve.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench_client.hpp"
#include "bench_requests.hpp"
#include "bench_tally.hpp"
#include "chat_stream.hpp"
#include "conclave/base/text.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/http/client.hpp"
#include "conclave/telemetry/progress_bar.hpp"
#include "interrupts.hpp"
#include "output.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

// Enough for a p90 of a loop, and for its connections to meet in many ways.
constexpr std::uint64_t kRequestsPerConnection = 4;
constexpr std::uint64_t kRequestsAtRate = 100;
// Token ids that every vocabulary has: the smallest ones in use are a few hundred.
constexpr std::uint32_t kVocabulary = 256;
// The number of the request that only tries.
constexpr std::uint64_t kTrial = 0xffff'fffe;
// From here on the client may be what is measured.
constexpr double kBusyClient = 0.8;

struct Options {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::vector<std::uint32_t> concurrency{1, 8, 32};
  std::vector<double> rates;
  std::uint64_t requests = 0;
  double duration_s = 0.0;
  std::uint32_t timeout_s = 600;
  std::optional<double> slo_ttft_ms;
  std::optional<double> slo_itl_ms;
  RequestShape shape;
  OutputFormat format = OutputFormat::kTable;
};

// One load and what came of it.
struct Level {
  LoadPlan plan;
  LoadReport report;
  double client_cpu = 0.0;  // processor seconds of this process in a second
};

double process_cpu_s() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class ServeBench {
 public:
  ServeBench(const Options& options, std::stop_token stop)
      : options_(options), shape_(options.shape), stop_(std::move(stop)), url_(options.url) {
    while (url_.ends_with('/')) url_.pop_back();
    if (url_.ends_with("/v1")) url_.resize(url_.size() - 3);
    headers_.push_back({"Content-Type", "application/json"});
    if (!options.api_key.empty())
      headers_.push_back({"Authorization", "Bearer " + options.api_key});
  }

  base::Status run() {
    if (shape_.model.empty()) CONCLAVE_TRY_VOID(choose_model());
    if (shape_.vocab == 0) shape_.vocab = kVocabulary;
    CONCLAVE_TRY_VOID(try_one());
    CONCLAVE_TRY(LoadClient client,
                 LoadClient::create({.url = url_ + std::string(endpoint(shape_.input)),
                                     .headers = headers_,
                                     .stream = shape_.stream,
                                     .prompt_tokens = shape_.prompt_tokens,
                                     .timeout = std::chrono::seconds(options_.timeout_s)}));
    for (const LoadPlan& plan : plans()) {
      CONCLAVE_TRY_VOID(measure(client, plan));
      if (stop_.stop_requested()) return fail(ErrorCode::kCancelled, "interrupted");
    }
    return failures();
  }

  [[nodiscard]] bool has_results() const { return !levels_.empty(); }

  void print() const {
    if (options_.format == OutputFormat::kJson) {
      print_json(to_json());
    } else {
      print_tables();
    }
  }

 private:
  [[nodiscard]] http::ClientRequest request(const std::string& path) const {
    return {.url = url_ + path,
            .headers = headers_,
            .timeout = std::chrono::seconds(options_.timeout_s),
            .stop = stop_};
  }

  // The first model that the server lists, and its vocabulary if the server tells (llama.cpp does).
  base::Status choose_model() {
    CONCLAVE_TRY(const http::Response response, http::fetch(request("/v1/models")));
    if (response.status != 200) return fail(server_error(response).within(url_ + "/v1/models"));
    boost::system::error_code error;
    const json::value body = json::parse(response.body, error);
    const json::value* id = error ? nullptr : body.find_pointer("/data/0/id", error);
    if (id == nullptr || !id->is_string()) {
      return fail(ErrorCode::kUnavailable, url_ + " lists no model; name one with --model");
    }
    shape_.model = std::string(id->get_string());
    const json::value* vocab = body.find_pointer("/data/0/meta/n_vocab", error);
    if (shape_.vocab == 0 && !error && vocab != nullptr) {
      shape_.vocab = vocab->to_number<std::uint32_t>(error);
    }
    return {};
  }

  // One short request before the load: what is wrong with all of them is said once, and plainly.
  base::Status try_one() {
    RequestShape one = shape_;
    one.prompt_tokens = std::min(one.prompt_tokens, 4u);
    one.prefix_share = 0.0;  // no beginning of a prompt to come: caches would know it
    one.new_tokens = 1;
    http::ClientRequest ask = request(std::string(endpoint(one.input)));
    ask.method = "POST";
    ask.body = request_body(one, kTrial);
    CONCLAVE_TRY(http::Response response, http::fetch(ask));
    const bool refused = response.status == 400 || response.status == 422;
    if (refused && shape_.ignore_eos && response.body.find("ignore_eos") != std::string::npos) {
      std::cerr << "conclave: the server does not know ignore_eos; outputs may be shorter than "
                << shape_.new_tokens << " tokens\n";
      one.ignore_eos = shape_.ignore_eos = false;
      ask.body = request_body(one, kTrial);
      CONCLAVE_TRY(response, http::fetch(ask));
    }
    if (response.status == 200) return {};
    base::Error error = server_error(response);
    if (refused && shape_.input == PromptInput::kIds) {
      error.message += "; if it takes no token ids, --input text or chat";
    }
    return fail(error.within(ask.url));
  }

  [[nodiscard]] std::vector<LoadPlan> plans() const {
    std::vector<LoadPlan> plans;
    const auto requests = [&](std::uint64_t otherwise) {
      return options_.requests > 0 || options_.duration_s > 0.0 ? options_.requests : otherwise;
    };
    for (const double rate : options_.rates) {
      plans.push_back({.connections = kConnectionsMax,
                       .rate = rate,
                       .requests = requests(kRequestsAtRate),
                       .duration_s = options_.duration_s,
                       .seed = shape_.seed});
    }
    if (!plans.empty()) return plans;
    for (const std::uint32_t connections : options_.concurrency) {
      plans.push_back({.connections = connections,
                       .requests = requests(kRequestsPerConnection * connections),
                       .duration_s = options_.duration_s});
    }
    return plans;
  }

  base::Status measure(LoadClient& client, const LoadPlan& plan) {
    telemetry::ProgressBar bar(plan.rate > 0.0 ? fixed(plan.rate, 1) + " requests/s"
                                               : std::to_string(plan.connections) + " connections");
    LoadTally tally(
        {.ttft_s = seconds(options_.slo_ttft_ms), .itl_s = seconds(options_.slo_itl_ms)});
    std::uint64_t bodies = 0;
    const double cpu = process_cpu_s();
    // Numbers go on from level to level: no prompt comes twice.
    const auto body = [&](std::uint64_t number) {
      bodies = number + 1;
      return request_body(shape_, sent_ + number);
    };
    const auto ran = client.run(plan, body, tally, stop_,
                                [&](std::uint64_t ended) { bar.update(ended, plan.requests); });
    sent_ += bodies;
    if (!ran) return fail(ran.error());
    levels_.push_back({.plan = plan,
                       .report = tally.report(*ran),
                       .client_cpu = (process_cpu_s() - cpu) / std::max(*ran, 1e-9)});
    return {};
  }

  static std::optional<double> seconds(const std::optional<double>& ms) {
    if (!ms) return std::nullopt;
    return *ms / 1e3;
  }

  [[nodiscard]] base::Status failures() const {
    std::uint64_t failed = 0;
    for (const Level& level : levels_) failed += level.report.failed;
    if (failed == 0) return {};
    return fail(ErrorCode::kUnavailable, std::to_string(failed) + " requests failed");
  }

  [[nodiscard]] bool has_level() const { return options_.slo_ttft_ms || options_.slo_itl_ms; }

  static json::object distribution_json(const Distribution& of) {
    return {{"mean", of.mean * 1e3},
            {"p50", of.p50 * 1e3},
            {"p90", of.p90 * 1e3},
            {"p99", of.p99 * 1e3},
            {"max", of.most * 1e3}};
  }

  [[nodiscard]] json::object level_json(const Level& level) const {
    const LoadReport& report = level.report;
    json::object out;
    if (level.plan.rate > 0.0) {
      out["rate"] = level.plan.rate;
    } else {
      out["concurrency"] = level.plan.connections;
    }
    out["seconds"] = report.seconds;
    out["completed"] = report.completed;
    out["failed"] = report.failed;
    out["unfinished"] = report.unfinished;
    out["requests_per_s"] = report.requests_per_s;
    out["output_tokens_per_s"] = report.output_tokens_per_s;
    out["total_tokens_per_s"] = report.total_tokens_per_s;
    if (has_level()) out["good_requests_per_s"] = report.good_per_s;
    out["prompt_tokens"] = report.prompt_tokens;
    out["output_tokens"] = report.output_tokens;
    if (report.cached_tokens) out["cached_tokens"] = *report.cached_tokens;
    if (shape_.stream) {
      out["ttft_ms"] = distribution_json(report.ttft_s);
      out["itl_ms"] = distribution_json(report.itl_s);
    }
    out["e2e_ms"] = distribution_json(report.e2e_s);
    out["client_cpu"] = level.client_cpu;
    json::object errors;
    for (const auto& [kind, failures] : report.errors) {
      errors[kind] = json::object{{"count", failures.count}, {"first", failures.first}};
    }
    out["errors"] = std::move(errors);
    return out;
  }

  [[nodiscard]] json::object to_json() const {
    static const std::map<PromptInput, std::string> names{
        {PromptInput::kIds, "ids"}, {PromptInput::kText, "text"}, {PromptInput::kChat, "chat"}};
    json::object settings{{"input", names.at(shape_.input)},
                          {"prompt_tokens", shape_.prompt_tokens},
                          {"new_tokens", shape_.new_tokens},
                          {"prefix_share", shape_.prefix_share},
                          {"vocab", shape_.vocab},
                          {"stream", shape_.stream},
                          {"ignore_eos", shape_.ignore_eos},
                          {"temperature", shape_.temperature},
                          {"seed", shape_.seed}};
    if (options_.slo_ttft_ms) settings["slo_ttft_ms"] = *options_.slo_ttft_ms;
    if (options_.slo_itl_ms) settings["slo_itl_ms"] = *options_.slo_itl_ms;
    json::array levels;
    for (const Level& level : levels_) levels.push_back(level_json(level));
    return {{"url", url_},
            {"model", shape_.model},
            {"settings", std::move(settings)},
            {"levels", std::move(levels)}};
  }

  void print_tables() const {
    std::cout << url_ << ", " << base::printable(shape_.model) << ": prompts of "
              << shape_.prompt_tokens << ", outputs of " << shape_.new_tokens << " tokens\n\n";
    std::vector<std::string> header{options_.rates.empty() ? "connections" : "rate",
                                    "completed",
                                    "failed",
                                    "requests/s",
                                    "output tokens/s",
                                    "total tokens/s"};
    if (has_level()) header.emplace_back("good requests/s");
    header.emplace_back("cached tokens");
    Table speeds(header);
    for (const Level& level : levels_) {
      const LoadReport& report = level.report;
      std::vector<std::string> row{name(level),
                                   std::to_string(report.completed),
                                   std::to_string(report.failed),
                                   fixed(report.requests_per_s, 2),
                                   fixed(report.output_tokens_per_s, 1),
                                   fixed(report.total_tokens_per_s, 1)};
      if (has_level()) row.push_back(fixed(report.good_per_s, 2));
      row.push_back(report.cached_tokens ? std::to_string(*report.cached_tokens) : "-");
      speeds.add(std::move(row));
    }
    std::cout << speeds.to_string() << "\n";
    Table times({options_.rates.empty() ? "connections" : "rate", "ms", "mean", "p50", "p90", "p99",
                 "max"});
    for (const Level& level : levels_) {
      if (level.report.completed == 0) continue;
      if (shape_.stream) {
        add_times(times, level, "first token", level.report.ttft_s);
        add_times(times, level, "between tokens", level.report.itl_s);
      }
      add_times(times, level, "end to end", level.report.e2e_s);
    }
    std::cout << times.to_string();
    print_remarks();
  }

  static std::string name(const Level& level) {
    return level.plan.rate > 0.0 ? fixed(level.plan.rate, 2)
                                 : std::to_string(level.plan.connections);
  }

  static void add_times(Table& table, const Level& level, const std::string& what,
                        const Distribution& of) {
    table.add({name(level), what, fixed(of.mean * 1e3, 2), fixed(of.p50 * 1e3, 2),
               fixed(of.p90 * 1e3, 2), fixed(of.p99 * 1e3, 2), fixed(of.most * 1e3, 2)});
  }

  void print_remarks() const {
    for (const Level& level : levels_) {
      for (const auto& [kind, failures] : level.report.errors) {
        std::cout << name(level) << ": " << failures.count << " x " << kind << ": "
                  << base::printable(failures.first) << "\n";
      }
      if (level.report.unfinished > 0) {
        std::cout << name(level) << ": " << level.report.unfinished << " not waited for\n";
      }
      if (level.client_cpu > kBusyClient) {
        std::cout << name(level) << ": this client used " << fixed(level.client_cpu * 100.0, 0)
                  << " % of a processor: the server may do more\n";
      }
    }
  }

  const Options& options_;
  RequestShape shape_;
  std::stop_token stop_;
  std::string url_;
  std::vector<http::Header> headers_;
  std::vector<Level> levels_;
  std::uint64_t sent_ = 0;
};

base::Status bench_serve(const Options& options) {
  Interrupts interrupts([] { ::_exit(kExitInterrupted); });
  ServeBench bench(options, interrupts.begin());
  const base::Status status = bench.run();
  interrupts.done();
  if (bench.has_results()) bench.print();
  return status;
}

void add_load_options(CLI::App& command, Options& options) {
  auto* concurrency = command
                          .add_option("--concurrency", options.concurrency,
                                      "Requests under way, always as many: one run each")
                          ->delimiter(',')
                          ->check(config::within(1u, kConnectionsMax))
                          ->capture_default_str();
  command
      .add_option("--rate", options.rates,
                  "Requests/s that arrive at random times, ready or not: one run each")
      ->delimiter(',')
      ->check(config::within(1e-3, 1e6))
      ->excludes(concurrency);
  command
      .add_option("--requests", options.requests,
                  "Requests of a run (default: 4 for each connection, or 100 at a rate)")
      ->check(config::within(std::uint64_t{1}, std::uint64_t{1} << 32));
  command.add_option("--duration", options.duration_s, "Seconds after which none is sent any more")
      ->check(config::within(1e-3, 1e6));
  command.add_option("--timeout", options.timeout_s, "Seconds that a request may take")
      ->check(config::within(1u, 86'400u))
      ->capture_default_str();
  command
      .add_option("--slo-ttft", options.slo_ttft_ms,
                  "Count as good only requests whose first token came within MS milliseconds")
      ->check(config::within(0.0, 1e9));
  command
      .add_option("--slo-itl", options.slo_itl_ms,
                  "Count as good only requests with at most MS milliseconds from token to token")
      ->check(config::within(0.0, 1e9));
}

void add_request_options(CLI::App& command, RequestShape& shape) {
  static const std::map<std::string, PromptInput> inputs{
      {"ids", PromptInput::kIds}, {"text", PromptInput::kText}, {"chat", PromptInput::kChat}};
  command.add_option("--model", shape.model, "The model (default: the first one it lists)");
  command
      .add_option("--input", shape.input, "Completions of token ids, completions of text, or chats")
      ->transform(CLI::CheckedTransformer(inputs).description("ids|text|chat"))
      ->default_str("ids");
  command.add_option("--prompt-tokens", shape.prompt_tokens, "Tokens (or words) of a prompt")
      ->check(config::within(1u, 1u << 20))
      ->capture_default_str();
  command.add_option("--new-tokens", shape.new_tokens, "Tokens of an output")
      ->check(config::within(1u, 1u << 20))
      ->capture_default_str();
  command
      .add_option("--prefix-share", shape.prefix_share,
                  "Share of each prompt, from its beginning, that is the same in all")
      ->check(config::within(0.0, 1.0))
      ->capture_default_str();
  shape.vocab = 0;
  command
      .add_option("--vocab", shape.vocab,
                  "Token ids are below this (default: as the server tells, or 256)")
      ->check(config::within(1u, 1u << 30));
  command.add_flag("--stream,!--no-stream", shape.stream, "Stream the answers (the default)");
  command.add_flag("--ignore-eos,!--no-ignore-eos", shape.ignore_eos,
                   "Outputs have their full length, if the server knows how (the default)");
  command.add_option("--temperature", shape.temperature, "Randomness of the outputs")
      ->check(config::within(0.0, 100.0))
      ->capture_default_str();
  shape.seed = 1;
  command
      .add_option("--seed", shape.seed,
                  "Same seed, same prompts and arrivals: another one finds no prompt cached")
      ->capture_default_str();
}

}  // namespace

CLI::App* add_bench_serve(CLI::App& bench, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      bench.add_subcommand("serve", "Drive any OpenAI server; fails if a request does");
  command->add_option("url,--url", options->url, "The server")
      ->capture_default_str()
      ->envname("CONCLAVE_URL");
  command->add_option("--api-key", options->api_key, "Sent as a bearer token")
      ->envname("CONCLAVE_API_KEY");
  add_load_options(*command, *options);
  add_request_options(*command, options->shape);
  add_output_option(*command, options->format);
  command->callback([options, &action] {
    if (!options->shape.stream && (options->slo_ttft_ms || options->slo_itl_ms)) {
      throw CLI::ExcludesError("--no-stream", "--slo-ttft and --slo-itl");
    }
    action = [options] { return bench_serve(*options); };
  });
  return command;
}

}  // namespace conclave::cli
