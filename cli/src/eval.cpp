// `conclave eval`: how often a model answers a set of questions exactly right, by kind of question,
// and which experts it used for each kind.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>

#include "commands.hpp"
#include "conclave/config/bind.hpp"
#include "conclave/engine/generator.hpp"
#include "conclave/telemetry/progress_bar.hpp"
#include "model_options.hpp"
#include "output.hpp"
#include "prompt.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;

// A set is read whole: a million questions of usual length fit.
constexpr std::uintmax_t kSetBytesMax = std::uintmax_t{256} << 20;

struct Options {
  ModelOptions model;
  std::string set;
  std::size_t limit = 0;
  std::size_t batch = 32;
  std::uint32_t max_tokens = 64;
  bool experts = false;
  OutputFormat format = OutputFormat::kTable;
};

struct Question {
  std::string kind;
  std::string text;
  std::string answer;
};

struct Score {
  std::size_t asked = 0;
  std::size_t right = 0;

  [[nodiscard]] double accuracy() const {
    return asked == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(asked);
  }
};

base::Result<Question> parse_question(const std::string& line, std::size_t number) {
  const auto bad = [&](const std::string& what) {
    return fail(ErrorCode::kInvalidArgument, "line " + std::to_string(number) + ": " + what);
  };
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object()) return bad("not a JSON object");
  Question question;
  for (const auto& [key, field] :
       {std::pair{"kind", &question.kind}, std::pair{"question", &question.text},
        std::pair{"answer", &question.answer}}) {
    const json::value* found = value.as_object().if_contains(key);
    if (found == nullptr || !found->is_string())
      return bad("no string \"" + std::string(key) + "\"");
    field->assign(found->as_string());
  }
  return question;
}

base::Status check_set_file(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    const bool exists = std::filesystem::exists(path, error);
    return fail(exists ? ErrorCode::kInvalidArgument : ErrorCode::kNotFound,
                path + (exists ? ": not a regular file" : ": no such file"));
  }
  if (std::filesystem::file_size(path, error) > kSetBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                path + ": larger than " + std::to_string(kSetBytesMax) + " bytes");
  }
  return {};
}

base::Result<std::vector<Question>> read_questions(const Options& options) {
  CONCLAVE_TRY_VOID(check_set_file(options.set));
  std::ifstream in(options.set);
  if (!in) return fail(ErrorCode::kUnavailable, options.set + ": cannot be read");
  std::vector<Question> questions;
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    auto question = parse_question(line, number);
    if (!question) return fail(question.error().within(options.set));
    questions.push_back(std::move(*question));
    if (options.limit != 0 && questions.size() == options.limit) break;
  }
  if (questions.empty()) return fail(ErrorCode::kInvalidArgument, options.set + ": no questions");
  return questions;
}

// Counts best experts by kind of question. The rows of a step belong to sequences in an order that
// only the generator knows, so expert use is counted one kind at a time: set `kind` before a run.
class ExpertUse final : public engine::RoutingObserver {
 public:
  explicit ExpertUse(const model::ModelConfig& config) : config_(config) {}

  void start_kind(const std::string& kind) {
    counts_ = &by_kind_[kind];
    counts_->resize(std::size_t{config_.layers} * config_.gate.experts);
  }
  void routed(std::uint32_t layer, const model::Routing& routing) override {
    for (std::size_t i = 0; i < routing.experts.size(); i += config_.gate.used) {
      ++(*counts_)[std::size_t{layer} * config_.gate.experts + routing.experts[i]];
    }
  }

  /// For each kind and layer: the best expert used most, its share of the kind's tokens.
  struct Favourite {
    std::uint32_t expert = 0;
    double share = 0.0;
  };
  [[nodiscard]] std::map<std::string, std::vector<Favourite>> favourites() const {
    std::map<std::string, std::vector<Favourite>> all;
    for (const auto& [kind, counts] : by_kind_) {
      for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
        const auto begin = counts.begin() + std::ptrdiff_t{layer} * config_.gate.experts;
        const auto end = begin + config_.gate.experts;
        const auto best = std::max_element(begin, end);
        double sum = 0.0;
        for (auto it = begin; it != end; ++it) sum += static_cast<double>(*it);
        all[kind].push_back({static_cast<std::uint32_t>(best - begin),
                             sum > 0.0 ? static_cast<double>(*best) / sum : 0.0});
      }
    }
    return all;
  }

 private:
  const model::ModelConfig& config_;
  std::map<std::string, std::vector<std::size_t>> by_kind_;  // (layer, expert) counts
  std::vector<std::size_t>* counts_ = nullptr;
};

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

base::Status ask(const engine::LocalModel& model, const ChatPrompts& chat,
                 engine::Generator& generator, const Options& options,
                 std::span<const Question> questions, Score& score) {
  std::vector<engine::SequenceRequest> requests;
  for (const Question& question : questions) {
    engine::SequenceRequest request;
    CONCLAVE_TRY(request.prompt, chat.render("", question.text));
    request.max_tokens = options.max_tokens;
    requests.push_back(std::move(request));
  }
  CONCLAVE_TRY(const auto generations, generator.run(requests));
  for (std::size_t i = 0; i < questions.size(); ++i) {
    ++score.asked;
    const std::string text = model.tokenizer().decode(generations[i].tokens);
    if (trimmed(text) == questions[i].answer) ++score.right;
  }
  return {};
}

json::object report_json(const std::map<std::string, Score>& scores, const Score& total,
                         const ExpertUse* use) {
  json::object kinds;
  for (const auto& [kind, score] : scores) {
    kinds[kind] = json::object{
        {"asked", score.asked}, {"right", score.right}, {"accuracy", score.accuracy()}};
  }
  json::object report{{"asked", total.asked},
                      {"right", total.right},
                      {"accuracy", total.accuracy()},
                      {"kinds", std::move(kinds)}};
  if (use == nullptr) return report;
  json::object experts;
  for (const auto& [kind, layers] : use->favourites()) {
    json::array list;
    for (const auto& favourite : layers) {
      list.push_back(json::object{{"expert", favourite.expert}, {"share", favourite.share}});
    }
    experts[kind] = std::move(list);
  }
  report["favourite_experts"] = std::move(experts);
  return report;
}

void print_tables(const std::map<std::string, Score>& scores, const Score& total,
                  const ExpertUse* use) {
  Table table({"kind", "asked", "right", "accuracy"});
  const auto add = [&](const std::string& kind, const Score& score) {
    table.add({kind, std::to_string(score.asked), std::to_string(score.right),
               fixed(100.0 * score.accuracy(), 2) + "%"});
  };
  for (const auto& [kind, score] : scores) add(kind, score);
  add("all", total);
  std::cout << table.to_string();
  if (use == nullptr) return;

  const auto favourites = use->favourites();
  std::vector<std::string> header{"favourite expert"};
  for (std::size_t i = 0; i < favourites.begin()->second.size(); ++i) {
    header.push_back("MoE layer " + std::to_string(i));
  }
  Table experts(std::move(header));
  for (const auto& [kind, layers] : favourites) {
    std::vector<std::string> row{kind};
    for (const auto& favourite : layers) {
      row.push_back(std::to_string(favourite.expert) + " (" + fixed(100.0 * favourite.share, 0) +
                    "%)");
    }
    experts.add(std::move(row));
  }
  std::cout << "\n" << experts.to_string();
}

base::Status eval(const Options& options) {
  CONCLAVE_TRY(auto questions, read_questions(options));
  CONCLAVE_TRY(const auto model, load_model(options.model));
  std::stable_sort(questions.begin(), questions.end(),
                   [](const Question& a, const Question& b) { return a.kind < b.kind; });
  CONCLAVE_TRY(const ChatPrompts chat, ChatPrompts::create(*model));
  engine::Generator generator(*model, options.model.kv_type);
  ExpertUse use(model->config());
  if (options.experts) generator.observe(&use);

  std::map<std::string, Score> scores;
  Score total;
  telemetry::ProgressBar bar("asking");
  for (std::size_t begin = 0; begin < questions.size();) {
    std::size_t end = begin;
    while (end < questions.size() && end - begin < options.batch &&
           questions[end].kind == questions[begin].kind) {
      ++end;
    }
    const std::string& kind = questions[begin].kind;
    use.start_kind(kind);
    CONCLAVE_TRY_VOID(ask(*model, chat, generator, options,
                          std::span(questions).subspan(begin, end - begin), scores[kind]));
    begin = end;
    bar.update(begin, questions.size());
  }
  for (const auto& [kind, score] : scores) {
    total.asked += score.asked;
    total.right += score.right;
  }
  const ExpertUse* shown = options.experts ? &use : nullptr;
  if (options.format == OutputFormat::kJson) {
    print_json(report_json(scores, total, shown));
  } else {
    print_tables(scores, total, shown);
  }
  return {};
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "eval", "Ask a set of questions, greedily, and count the answers that are exactly right");
  add_model_options(*command, options->model);
  command
      ->add_option("--set", options->set,
                   "Questions: a JSON object {kind, question, answer} on each line")
      ->required();
  command->add_option("--limit", options->limit, "Ask the first N only (0: all)")
      ->check(config::within(std::size_t{0}, SIZE_MAX))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "Questions worked at once")
      ->check(config::within(std::size_t{1}, std::size_t{1024}))
      ->capture_default_str();
  command->add_option("-n,--max-tokens", options->max_tokens, "Most tokens of an answer")
      ->check(config::within(1u, 65536u))
      ->capture_default_str();
  command->add_flag("--experts", options->experts, "Show each kind's favourite expert by layer");
  add_output_option(*command, options->format);
  command->callback([options, &action] { action = [options] { return eval(*options); }; });
}

}  // namespace conclave::cli
