// `conclave bench`: how fast this machine runs a model, in this process, and how near that is to
// what the machine could do. `conclave bench serve` is bench_serve.cpp.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "bench_limits.hpp"
#include "bench_model.hpp"
#include "bench_serve.hpp"
#include "bench_statistics.hpp"
#include "bench_token_cost.hpp"
#include "commands.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/telemetry/progress_bar.hpp"
#include "interrupts.hpp"
#include "model_options.hpp"
#include "output.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using SteadyClock = std::chrono::steady_clock;

constexpr double kGiga = 1e9;

struct Options {
  std::vector<std::string> models;
  unsigned threads = 0;
  std::string isa;
  std::uint32_t prompt = 512;
  std::uint32_t generate = 128;
  std::vector<std::uint32_t> parallel{1, 8, 32};
  std::uint32_t repetitions = 5;
  std::uint64_t seed = 1;
  OutputFormat format = OutputFormat::kTable;
};

// One line of the result.
struct Row {
  std::string name;
  std::uint32_t parallel = 1;
  std::string limit;                 // what bounds it, or empty
  std::vector<double> tokens_per_s;  // one a round
  std::vector<double> limit_per_s;   // tokens a second at that round's limit
};

struct Subject {
  std::string path;
  double load_s = 0.0;
  std::unique_ptr<engine::LocalModel> model;
  TokenCost cost;
  std::vector<Row> rows;

  Row& row(const std::string& name, std::uint32_t parallel) {
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const Row& row) {
      return row.name == name && row.parallel == parallel;
    });
    if (found != rows.end()) return *found;
    rows.push_back({.name = name, .parallel = parallel});
    return rows.back();
  }
};

// Rounds of all tests on all models: models take turns, so that a slow minute slows all alike.
class Bench {
 public:
  Bench(const Options& options, std::stop_token stop) : options_(options), stop_(std::move(stop)) {}

  base::Status run() {
    for (const std::string& path : options_.models) CONCLAVE_TRY_VOID(load(path));
    const engine::LocalModel& first = *subjects_.front().model;
    isa_ = first.kernels().isa;
    const unsigned threads = options_.threads == 0 ? engine::available_threads() : options_.threads;
    CONCLAVE_TRY(LimitsProbe probe, LimitsProbe::create(threads, isa_));
    threads_ = probe.threads();
    telemetry::ProgressBar bar("measuring");
    const std::size_t runs = (options_.repetitions + 1) * subjects_.size() * tests();
    for (std::uint32_t round = 0; round <= options_.repetitions; ++round) {
      round_ = round;
      limits_ = probe.measure();
      if (warm()) all_limits_.push_back(limits_);
      for (Subject& subject : subjects_) {
        CONCLAVE_TRY_VOID(measure(subject, [&] { bar.update(++done_, runs); }));
      }
    }
    return {};
  }

  void print() const {
    if (options_.format == OutputFormat::kJson) {
      print_json(to_json());
    } else {
      print_tables();
    }
  }

  [[nodiscard]] bool has_results() const {
    return std::any_of(subjects_.begin(), subjects_.end(),
                       [](const Subject& subject) { return !subject.rows.empty(); });
  }

 private:
  // The first round finds cold caches, pages and threads; it is not counted.
  [[nodiscard]] bool warm() const { return round_ > 0; }

  [[nodiscard]] std::size_t tests() const {
    return (options_.prompt > 0 ? 1u : 0u) + (options_.generate > 0 ? 1u : 0u) + parallel();
  }
  [[nodiscard]] std::size_t parallel() const {
    return static_cast<std::size_t>(std::count_if(
        options_.parallel.begin(), options_.parallel.end(), [](std::uint32_t p) { return p > 0; }));
  }

  base::Status load(const std::string& path) {
    Subject subject;
    subject.path = path;
    const auto start = SteadyClock::now();
    CONCLAVE_TRY(subject.model, load_model({path, options_.threads, options_.isa}));
    subject.load_s = std::chrono::duration<double>(SteadyClock::now() - start).count();
    subject.cost = token_cost(subject.model->file(), subject.model->config());
    subjects_.push_back(std::move(subject));
    if (stop_.stop_requested()) return base::fail(base::ErrorCode::kCancelled, "interrupted");
    return {};
  }

  template <class Done>
  base::Status measure(Subject& subject, const Done& done) {
    const std::string pp = "pp" + std::to_string(options_.prompt);
    const std::string tg = "tg" + std::to_string(options_.generate);
    if (options_.prompt > 0) {
      CONCLAVE_TRY(const StepTimes times, once(subject, 1, options_.prompt, 1));
      note_prompt(subject, pp, 1, times.speed(options_.prompt).prompt);
      done();
    }
    if (options_.generate > 0) {
      CONCLAVE_TRY(const StepTimes times, once(subject, 1, 1, options_.generate + 1));
      note_decode(subject, tg, times.speed(1).decode);
      done();
    }
    for (const std::uint32_t sequences : options_.parallel) {
      if (sequences == 0) continue;
      const std::uint32_t prompt = std::max(options_.prompt, 1u);
      CONCLAVE_TRY(const StepTimes times,
                   once(subject, sequences, prompt, std::max(options_.generate, 1u)));
      const BatchSpeed speed = times.speed(prompt);
      note_prompt(subject, "batch pp", sequences, speed.prompt);
      if (speed.decode > 0.0) note(subject, "batch tg", sequences, speed.decode);
      note(subject, "batch total", sequences, speed.total);
      done();
    }
    return {};
  }

  base::Result<StepTimes> once(Subject& subject, std::size_t sequences, std::uint32_t prompt,
                               std::uint32_t new_tokens) {
    return run_bench(*subject.model,
                     {.sequences = sequences,
                      .prompt_tokens = prompt,
                      .new_tokens = new_tokens,
                      .seed = options_.seed,
                      .round = round_},
                     stop_);
  }

  Row* note(Subject& subject, const std::string& name, std::uint32_t parallel, double speed) {
    if (!warm()) return nullptr;
    Row& row = subject.row(name, parallel);
    row.tokens_per_s.push_back(speed);
    return &row;
  }

  void note_prompt(Subject& subject, const std::string& name, std::uint32_t parallel,
                   double speed) {
    Row* row = note(subject, name, parallel, speed);
    if (row == nullptr || subject.cost.prompt_ops == 0.0) return;
    row->limit = "int8";
    row->limit_per_s.push_back(limits_.int8_ops_per_s / subject.cost.prompt_ops);
  }

  void note_decode(Subject& subject, const std::string& name, double speed) {
    Row* row = note(subject, name, 1, speed);
    if (row == nullptr) return;
    row->limit = "memory";
    row->limit_per_s.push_back(limits_.memory_bytes_per_s / subject.cost.decode_bytes);
  }

  // The share of its limit, each round by the limit of that round.
  static double share(const Row& row) {
    std::vector<double> shares(row.limit_per_s.size());
    for (std::size_t i = 0; i < shares.size(); ++i) {
      shares[i] = row.tokens_per_s[i] / row.limit_per_s[i];
    }
    return spread_of(shares).median;
  }

  [[nodiscard]] Spread memory() const {
    std::vector<double> values;
    for (const MachineLimits& at : all_limits_) values.push_back(at.memory_bytes_per_s / kGiga);
    return spread_of(values);
  }
  [[nodiscard]] Spread int8() const {
    std::vector<double> values;
    for (const MachineLimits& at : all_limits_) values.push_back(at.int8_ops_per_s / kGiga);
    return spread_of(values);
  }

  static json::object spread_json(const Spread& spread) {
    return {{"median", spread.median}, {"min", spread.least}, {"max", spread.most}};
  }

  [[nodiscard]] json::object to_json() const {
    json::array models;
    for (const Subject& subject : subjects_) {
      json::array tests;
      for (const Row& row : subject.rows) {
        json::object speed = spread_json(spread_of(row.tokens_per_s));
        speed["samples"] = json::array(row.tokens_per_s.begin(), row.tokens_per_s.end());
        json::object test{
            {"test", row.name}, {"parallel", row.parallel}, {"tokens_per_s", std::move(speed)}};
        if (!row.limit.empty()) {
          test["limit"] = row.limit;
          test["limit_tokens_per_s"] = spread_of(row.limit_per_s).median;
          test["of_limit"] = share(row);
        }
        tests.push_back(std::move(test));
      }
      models.push_back(json::object{{"model", subject.path},
                                    {"load_s", subject.load_s},
                                    {"decode_bytes_per_token", subject.cost.decode_bytes},
                                    {"prompt_ops_per_token", subject.cost.prompt_ops},
                                    {"tests", std::move(tests)}});
    }
    return {
        {"settings",
         json::object{{"threads", threads_},
                      {"isa", kernels::to_string(isa_)},
                      {"prompt", options_.prompt},
                      {"generate", options_.generate},
                      {"parallel", json::array(options_.parallel.begin(), options_.parallel.end())},
                      {"repetitions", options_.repetitions},
                      {"seed", options_.seed}}},
        {"limits", json::object{{"memory_gb_per_s", spread_json(memory())},
                                {"int8_gop_per_s", spread_json(int8())}}},
        {"models", std::move(models)}};
  }

  void print_tables() const {
    std::cout << threads_ << " threads, " << kernels::to_string(isa_) << "; memory "
              << fixed(memory().median, 1) << " GB/s (" << fixed(memory().least, 1) << " to "
              << fixed(memory().most, 1) << "), int8 " << fixed(int8().median, 0) << " Gop/s\n";
    for (const Subject& subject : subjects_) {
      std::cout << "\n"
                << subject.path << ": loaded in " << fixed(subject.load_s, 2) << " s; "
                << fixed(subject.cost.decode_bytes / 1e6, 1) << " MB and "
                << fixed(subject.cost.prompt_ops / 1e6, 0) << " Mop a token\n";
      Table table({"test", "parallel", "tokens/s", "min", "max", "of limit"});
      for (const Row& row : subject.rows) {
        const Spread spread = spread_of(row.tokens_per_s);
        table.add({row.name, std::to_string(row.parallel), fixed(spread.median, 1),
                   fixed(spread.least, 1), fixed(spread.most, 1),
                   row.limit.empty() ? "" : fixed(100.0 * share(row), 0) + " % of " + row.limit});
      }
      std::cout << table.to_string();
    }
  }

  const Options& options_;
  std::stop_token stop_;
  kernels::Isa isa_ = kernels::Isa::kScalar;
  unsigned threads_ = 0;
  std::vector<Subject> subjects_;
  std::vector<MachineLimits> all_limits_;  // of the rounds that count
  MachineLimits limits_;                   // of the round at hand
  std::uint32_t round_ = 0;
  std::size_t done_ = 0;
};

base::Status bench(const Options& options) {
  Interrupts interrupts([] { ::_exit(kExitInterrupted); });
  Bench bench(options, interrupts.begin());
  const base::Status status = bench.run();
  interrupts.done();
  if (status || bench.has_results()) bench.print();
  return status;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("bench", "Measure a model on this machine, or a server (bench serve URL)");
  auto* model = command
                    ->add_option("-m,--model", options->models,
                                 "A GGUF file; several are measured in turns, round by round")
                    ->allow_extra_args(false)
                    ->envname("CONCLAVE_MODEL");
  add_compute_options(*command, options->threads, options->isa);
  command
      ->add_option("--prompt", options->prompt, "Tokens of a prompt (0: no test of prompts alone)")
      ->check(config::within(0u, 1u << 20))
      ->capture_default_str();
  command
      ->add_option("--generate", options->generate,
                   "Tokens of an output (0: no test of decoding alone)")
      ->check(config::within(0u, 1u << 20))
      ->capture_default_str();
  command
      ->add_option("--parallel", options->parallel,
                   "Sequences at once, each with a prompt and an output (0: none)")
      ->delimiter(',')
      ->check(config::within(0u, 4096u))
      ->capture_default_str();
  command
      ->add_option("--repetitions", options->repetitions, "Rounds that count, after one to warm up")
      ->check(config::within(1u, 1000u))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Same seed, same prompts")->capture_default_str();
  add_output_option(*command, options->format);
  CLI::App* serve = add_bench_serve(*command, action);
  command->callback([options, &action, model, serve] {
    if (serve->parsed()) return;
    if (options->models.empty()) throw CLI::RequiredError(model->get_name());
    action = [options] { return bench(*options); };
  });
}

}  // namespace conclave::cli
