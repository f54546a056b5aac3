// The whole model against reference numbers: for each <model>.json beside its GGUF, the tokens of a
// prompt, the logits of every position and the greedy continuation. Runs over the repository's own
// set and, when CONCLAVE_GOLDEN_DIR names a folder, over the files there too.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "conclave/engine/generator.hpp"
#include "conclave/engine/local_model.hpp"

namespace conclave {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// One prompt of a golden file. Values are those of the reference, in double precision.
struct Candidate {
  std::int32_t id = 0;
  double logit = 0.0;
};
struct GoldenPrompt {
  std::string text;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> generated;
  std::string generated_bytes;  // empty: not recorded
  struct Position {
    Candidate best;
    double log_sum_exp = 0.0;
  };
  std::vector<Position> prefill;
  std::vector<std::vector<Candidate>> steps;  // the best candidates at each step, best first
};

std::vector<std::int32_t> integers(const json::value& list) {
  std::vector<std::int32_t> out;
  for (const auto& value : list.as_array()) {
    out.push_back(static_cast<std::int32_t>(value.as_int64()));
  }
  return out;
}

Candidate candidate(const json::value& entry) {
  const json::array& list = entry.as_array();
  return {static_cast<std::int32_t>(list[0].as_int64()), list[1].to_number<double>()};
}

std::string from_hex(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

GoldenPrompt read_prompt(const json::object& entry) {
  GoldenPrompt prompt;
  if (const auto* text = entry.if_contains("prompt")) prompt.text = text->as_string();
  prompt.tokens = integers(entry.at("tokens"));
  if (const auto* generated = entry.if_contains("generated")) {
    prompt.generated = integers(*generated);
  }
  if (const auto* hex = entry.if_contains("generated_hex")) {
    prompt.generated_bytes = from_hex(hex->as_string());
  }
  for (const auto& position : entry.at("prefill").as_array()) {
    prompt.prefill.push_back({candidate(position), position.as_array()[2].to_number<double>()});
  }
  for (const auto& step : entry.at("steps").as_array()) {
    prompt.steps.emplace_back();
    for (const auto& top : step.at("top").as_array()) {
      prompt.steps.back().push_back(candidate(top));
    }
  }
  return prompt;
}

struct GoldenFile {
  fs::path model;
  std::vector<GoldenPrompt> prompts;
};

// Numbers from exactly decoded weights are preferred: the `exact` block, where the reference itself
// rounds activations.
GoldenFile read_golden(const fs::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  const json::object document = json::parse(text.str()).as_object();
  GoldenFile golden;
  golden.model = path.parent_path() / std::string(document.at("model").as_string());
  const char* key = document.contains("exact") ? "exact" : "prompts";
  for (const auto& entry : document.at(key).as_array()) {
    golden.prompts.push_back(read_prompt(entry.as_object()));
  }
  return golden;
}

// Largest difference of a logit that a file's block types explain. Float weights: the issue is only
// the order of single-precision sums. Block weights: activations are rounded to 8 bits, with an
// error of 1/254 of the largest of 32 values; what it makes of a logit was measured over all golden
// files (see tests/golden/README.md), the bound is about twice the worst.
double tolerance(const gguf::File& file) {
  const bool blocks = std::any_of(file.tensors().begin(), file.tensors().end(), [](const auto& t) {
    return kernels::takes_quantized_rows(t.type);
  });
  return blocks ? 0.5 : 2e-3;
}

std::vector<fs::path> golden_files() {
  std::vector<fs::path> folders{fs::path(CONCLAVE_SOURCE_DIR) / "tests/golden/models"};
  if (const char* extra = std::getenv("CONCLAVE_GOLDEN_DIR")) folders.emplace_back(extra);
  std::vector<fs::path> files;
  for (const fs::path& folder : folders) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".json") continue;
      if (entry.path().filename().string().starts_with("tokenizers")) continue;
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::unique_ptr<engine::LocalModel> load(const fs::path& path, const std::string& isa,
                                         unsigned threads) {
  engine::LoadOptions options;
  options.isa = isa;
  options.threads = threads;
  auto model = engine::LocalModel::load(path, options);
  EXPECT_TRUE(model) << model.error().to_string();
  return model ? std::move(*model) : nullptr;
}

// Logits of every position of `tokens`, computed in chunks of `chunk` rows.
std::vector<float> all_logits(engine::LocalModel& model, const std::vector<std::int32_t>& tokens,
                              std::size_t chunk) {
  model::KvCache cache(model.config(), static_cast<std::uint32_t>(tokens.size()));
  engine::Forward forward(model.backbone(), model.experts());
  std::vector<float> all;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    std::vector<engine::StepRow> rows;
    for (std::size_t i = begin; i < std::min(begin + chunk, tokens.size()); ++i) {
      rows.push_back({tokens[i], static_cast<std::uint32_t>(i), &cache, true});
    }
    const auto logits = forward.step(rows);
    EXPECT_TRUE(logits) << logits.error().to_string();
    if (logits) all.insert(all.end(), logits->begin(), logits->end());
  }
  return all;
}

std::vector<std::int32_t> tokens_with_continuation(const GoldenPrompt& prompt) {
  std::vector<std::int32_t> tokens = prompt.tokens;
  for (std::size_t i = 0; i + 1 < prompt.steps.size(); ++i) {
    tokens.push_back(prompt.steps[i].front().id);
  }
  return tokens;
}

class GoldenTest : public testing::TestWithParam<fs::path> {};

TEST_P(GoldenTest, LogitsAndGreedyTokensEqualTheReference) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 2);
  ASSERT_TRUE(model);
  const double allowed = tolerance(model->file());
  const std::size_t vocab = model->config().vocab;
  double worst = 0.0;
  for (const GoldenPrompt& prompt : golden.prompts) {
    const auto logits = all_logits(*model, tokens_with_continuation(prompt), 512);
    ASSERT_EQ(logits.size() % vocab, 0u);
    const auto row = [&](std::size_t position) {
      return std::span(logits).subspan(position * vocab, vocab);
    };
    const auto compare = [&](std::size_t position, const Candidate& expected) {
      const double got = row(position)[static_cast<std::size_t>(expected.id)];
      worst = std::max(worst, std::abs(got - expected.logit));
      ASSERT_NEAR(got, expected.logit, allowed) << "position " << position;
    };
    for (std::size_t i = 0; i < prompt.prefill.size(); ++i) {
      compare(i, prompt.prefill[i].best);
      double sum = 0.0;
      for (const float logit : row(i)) sum += std::exp(double{logit});
      ASSERT_NEAR(std::log(sum), prompt.prefill[i].log_sum_exp, allowed) << "position " << i;
    }
    for (std::size_t i = 0; i < prompt.steps.size(); ++i) {
      const std::size_t position = prompt.tokens.size() - 1 + i;
      for (const Candidate& expected : prompt.steps[i]) compare(position, expected);
      const auto best = std::max_element(row(position).begin(), row(position).end());
      const double margin = prompt.steps[i][0].logit - prompt.steps[i][1].logit;
      if (margin > 2.0 * allowed) {
        ASSERT_EQ(best - row(position).begin(), prompt.steps[i][0].id) << "step " << i;
      }
    }
  }
  std::cout << "[ GOLDEN   ] " << golden.model.filename().string() << ": worst logit difference "
            << worst << "\n";
}

TEST_P(GoldenTest, PromptTextGivesTheReferenceTokens) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 1);
  ASSERT_TRUE(model);
  for (const GoldenPrompt& prompt : golden.prompts) {
    if (prompt.text.empty()) continue;
    const auto ids = model->tokenizer().encode(prompt.text, {.parse_special = true});
    ASSERT_TRUE(ids) << ids.error().to_string();
    EXPECT_EQ(*ids, prompt.tokens) << prompt.text;
    if (prompt.generated_bytes.empty()) continue;
    std::string bytes;
    for (const std::int32_t id : prompt.generated) bytes += model->tokenizer().piece(id);
    EXPECT_EQ(bytes, prompt.generated_bytes);
  }
}

TEST_P(GoldenTest, NoBitDependsOnInstructionsThreadsOrBatching) {
  const GoldenFile golden = read_golden(GetParam());
  const auto reference_model = load(golden.model, "scalar", 1);
  ASSERT_TRUE(reference_model);
  const auto longest = std::max_element(
      golden.prompts.begin(), golden.prompts.end(),
      [](const auto& a, const auto& b) { return a.tokens.size() < b.tokens.size(); });
  const auto tokens = tokens_with_continuation(*longest);
  const auto reference = all_logits(*reference_model, tokens, tokens.size());
  for (const kernels::Isa isa :
       {kernels::Isa::kScalar, kernels::Isa::kAvx2, kernels::Isa::kAvx512}) {
    if (!kernels::supported(isa)) continue;
    const auto model = load(golden.model, std::string(to_string(isa)), 2);
    ASSERT_TRUE(model);
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, tokens.size()}) {
      EXPECT_TRUE(all_logits(*model, tokens, chunk) == reference)
          << to_string(isa) << ", rows in chunks of " << chunk;
    }
  }
}

TEST_P(GoldenTest, SequencesGenerateTheSameTogetherAndAlone) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 2);
  ASSERT_TRUE(model);
  std::vector<engine::GenerateRequest> requests;
  for (const GoldenPrompt& prompt : golden.prompts) {
    engine::GenerateRequest request;
    request.prompt = prompt.tokens;
    request.max_tokens = 8;
    request.ignore_eos = true;
    request.top_logprobs = 3;
    request.sampling.temperature = 1.0f;
    request.sampling.seed = 11 + requests.size();
    requests.push_back(request);
  }
  engine::Generator generator(*model);
  const auto together = generator.run(requests);
  ASSERT_TRUE(together) << together.error().to_string();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto alone = generator.run(std::span(requests).subspan(i, 1));
    ASSERT_TRUE(alone) << alone.error().to_string();
    EXPECT_EQ((*together)[i].tokens, alone->front().tokens);
    for (std::size_t t = 0; t < alone->front().tokens.size(); ++t) {
      EXPECT_EQ((*together)[i].top_logprobs[t][0].logprob,
                alone->front().top_logprobs[t][0].logprob);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenTest, testing::ValuesIn(golden_files()),
                         [](const auto& instance) {
                           std::string name = instance.param.stem().string();
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace conclave
