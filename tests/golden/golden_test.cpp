// The whole model against reference numbers: for each <model>.json beside its GGUF, the tokens of a
// prompt, the logits of every position and the greedy continuation. Runs over the repository's own
// set and, when CONCLAVE_GOLDEN_DIR names a folder, over the files there too.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
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
  std::vector<std::int32_t> generated;  // what follows the prompt; step i computes token i
  std::string generated_bytes;          // empty: not recorded
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
  prompt.generated = integers(entry.at("generated"));
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
  std::vector<GoldenPrompt> exact;    // activations never rounded
  std::vector<GoldenPrompt> rounded;  // rounded to 8 bits as we do; empty: not recorded
};

// `exact` is preferred where a reference rounds activations in its own way in `prompts`.
GoldenFile read_golden(const fs::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  const json::object document = json::parse(text.str()).as_object();
  GoldenFile golden;
  golden.model = path.parent_path() / std::string(document.at("model").as_string());
  const auto read = [&](const char* key, std::vector<GoldenPrompt>& prompts) {
    for (const auto& entry : document.at(key).as_array()) {
      prompts.push_back(read_prompt(entry.as_object()));
    }
  };
  read(document.contains("exact") ? "exact" : "prompts", golden.exact);
  if (document.contains("rounded")) read("rounded", golden.rounded);
  return golden;
}

bool has_blocks(const gguf::File& file) {
  return std::any_of(file.tensors().begin(), file.tensors().end(),
                     [](const auto& tensor) { return kernels::scale_block(tensor.type) > 0; });
}

// Logits of float weights: single precision against double, over all golden files 2e-5 at worst.
constexpr double kFloatTolerance = 2e-4;
// Block weights against a reference that rounds the same way: as close, but for a value next to a
// rounding boundary that falls on the other side of it and moves what follows by one step of its
// block. Most files have none; in those that do, most numbers stand before it.
constexpr double kRoundedMedian = 2e-4;
constexpr double kRoundedTolerance = 0.3;
// Block weights against unrounded activations: what 8 bits cost, as quantiles, because a changed
// choice of experts moves single logits far. Simulated in double precision: tests/golden/README.md.
constexpr double kExactMedian = 0.1;
constexpr double kExactP99 = 0.8;

constexpr model::KvType kCacheTypes[] = {model::KvType::kF32, model::KvType::kF16,
                                         model::KvType::kQ8_0};

// What a cache of fewer bits costs, in float models, about thrice what was seen: quantiles, for a
// changed choice of experts moves single logits far.
struct CacheBound {
  model::KvType type;
  double median;
  double p99;
};
constexpr CacheBound kCacheBounds[] = {{model::KvType::kF16, 4e-3, 2e-2},
                                       {model::KvType::kQ8_0, 0.1, 1.5}};

std::vector<fs::path> golden_files() {
  std::vector<fs::path> folders{fs::path(CONCLAVE_SOURCE_DIR) / "tests/golden/models"};
  const char* extra = std::getenv("CONCLAVE_GOLDEN_DIR");
  if (extra != nullptr && *extra != '\0') folders.emplace_back(extra);
  std::vector<fs::path> files;
  for (const fs::path& folder : folders) {
    std::error_code missing;  // a folder that is not there adds no files
    for (const auto& entry : fs::directory_iterator(folder, missing)) {
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
                              std::size_t chunk, model::KvType type = model::KvType::kF32) {
  std::vector<model::KvBlockId> blocks(model::kv_blocks_of(tokens.size()));
  std::iota(blocks.rbegin(), blocks.rend(), 0u);
  const auto pool = model::KvPool::create(model.config(), type, blocks.size()).value();
  engine::Forward forward(model.backbone(), model.experts(), *pool);
  std::vector<float> all;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    std::vector<engine::StepRow> rows;
    for (std::size_t i = begin; i < std::min(begin + chunk, tokens.size()); ++i) {
      rows.push_back({tokens[i], static_cast<std::uint32_t>(i), blocks, true});
    }
    const auto logits = forward.step(rows);
    EXPECT_TRUE(logits) << logits.error().to_string();
    if (logits) all.insert(all.end(), logits->begin(), logits->end());
  }
  return all;
}

std::vector<std::int32_t> tokens_with_continuation(const GoldenPrompt& prompt) {
  std::vector<std::int32_t> tokens = prompt.tokens;
  tokens.insert(tokens.end(), prompt.generated.begin(), prompt.generated.end() - 1);
  return tokens;
}

class GoldenTest : public testing::TestWithParam<fs::path> {};

// How far a model's logits are from a reference, over every recorded one.
struct Differences {
  std::vector<double> all;   // sorted
  double flip_margin = 0.0;  // largest lead of a reference's best token that is not our best

  [[nodiscard]] double quantile(double share) const {
    return all[static_cast<std::size_t>(share * static_cast<double>(all.size() - 1))];
  }
};

Differences compare(engine::LocalModel& model, const std::vector<GoldenPrompt>& prompts,
                    model::KvType type = model::KvType::kF32) {
  Differences differences;
  const std::size_t vocab = model.config().vocab;
  for (const GoldenPrompt& prompt : prompts) {
    const auto logits = all_logits(model, tokens_with_continuation(prompt), 512, type);
    const auto row = [&](std::size_t position) {
      return std::span(logits).subspan(position * vocab, vocab);
    };
    const auto note = [&](std::size_t position, const Candidate& expected) {
      const double got = row(position)[static_cast<std::size_t>(expected.id)];
      differences.all.push_back(std::abs(got - expected.logit));
    };
    for (std::size_t i = 0; i < prompt.prefill.size(); ++i) {
      note(i, prompt.prefill[i].best);
      double sum = 0.0;
      for (const float logit : row(i)) sum += std::exp(double{logit});
      differences.all.push_back(std::abs(std::log(sum) - prompt.prefill[i].log_sum_exp));
    }
    for (std::size_t i = 0; i < prompt.steps.size(); ++i) {
      const std::size_t position = prompt.tokens.size() - 1 + i;
      for (const Candidate& expected : prompt.steps[i]) note(position, expected);
      const auto best = std::max_element(row(position).begin(), row(position).end());
      if (best - row(position).begin() != prompt.steps[i][0].id) {
        differences.flip_margin =
            std::max(differences.flip_margin, prompt.steps[i][0].logit - prompt.steps[i][1].logit);
      }
    }
  }
  EXPECT_TRUE(std::all_of(differences.all.begin(), differences.all.end(),
                          [](double difference) { return std::isfinite(difference); }));
  std::sort(differences.all.begin(), differences.all.end());
  return differences;
}

TEST_P(GoldenTest, LogitsAndGreedyTokensEqualTheReference) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 2);
  ASSERT_TRUE(model);
  const Differences exact = compare(*model, golden.exact);
  std::cout << "[ GOLDEN   ] " << golden.model.filename().string() << ": largest difference "
            << exact.all.back() << ", 99 % below " << exact.quantile(0.99) << ", median "
            << exact.quantile(0.5);
  if (!has_blocks(model->file())) {
    std::cout << "\n";
    EXPECT_LT(exact.all.back(), kFloatTolerance);
    EXPECT_LT(exact.flip_margin, 2.0 * kFloatTolerance);
    return;
  }
  EXPECT_LT(exact.quantile(0.99), kExactP99);
  EXPECT_LT(exact.quantile(0.5), kExactMedian);
  if (!golden.rounded.empty()) {
    const Differences rounded = compare(*model, golden.rounded);
    std::cout << "; to the rounded reference " << rounded.all.back() << ", median "
              << rounded.quantile(0.5);
    EXPECT_LT(rounded.all.back(), kRoundedTolerance);
    EXPECT_LT(rounded.quantile(0.5), kRoundedMedian);
    EXPECT_LT(rounded.flip_margin, 2.0 * kRoundedTolerance);
  }
  std::cout << "\n";
}

TEST_P(GoldenTest, ACacheOfFewerBitsMovesLogitsLittle) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 2);
  ASSERT_TRUE(model);
  if (has_blocks(model->file())) return;  // rounded activations hide what the cache does
  for (const CacheBound& bound : kCacheBounds) {
    const Differences differences = compare(*model, golden.exact, bound.type);
    std::cout << "[ GOLDEN   ] " << golden.model.filename().string() << ", "
              << (bound.type == model::KvType::kF16 ? "f16" : "q8_0")
              << " cache: largest difference " << differences.all.back() << ", 99 % below "
              << differences.quantile(0.99) << ", median " << differences.quantile(0.5) << "\n";
    EXPECT_LT(differences.quantile(0.99), bound.p99);
    EXPECT_LT(differences.quantile(0.5), bound.median);
  }
}

TEST_P(GoldenTest, PromptTextGivesTheReferenceTokens) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 1);
  ASSERT_TRUE(model);
  for (const GoldenPrompt& prompt : golden.exact) {
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
      golden.exact.begin(), golden.exact.end(),
      [](const auto& a, const auto& b) { return a.tokens.size() < b.tokens.size(); });
  const auto tokens = tokens_with_continuation(*longest);
  std::vector<std::vector<float>> references;
  for (const model::KvType type : kCacheTypes) {
    references.push_back(all_logits(*reference_model, tokens, tokens.size(), type));
  }
  for (const kernels::Isa isa : kernels::kIsas) {
    if (!kernels::supported(isa)) continue;
    const std::pair<unsigned, std::size_t> shapes[] = {{1, tokens.size()}, {2, 1}, {3, 7}};
    for (const auto& [threads, chunk] : shapes) {
      const auto model = load(golden.model, std::string(to_string(isa)), threads);
      ASSERT_TRUE(model);
      for (std::size_t i = 0; i < references.size(); ++i) {
        const auto logits = all_logits(*model, tokens, chunk, kCacheTypes[i]);
        ASSERT_EQ(logits.size(), references[i].size());
        EXPECT_EQ(std::memcmp(logits.data(), references[i].data(), logits.size() * sizeof(float)),
                  0)
            << to_string(isa) << ", " << threads << " threads, rows in chunks of " << chunk;
      }
    }
  }
}

TEST_P(GoldenTest, SequencesGenerateTheSameTogetherAndAlone) {
  const GoldenFile golden = read_golden(GetParam());
  const auto model = load(golden.model, "", 2);
  ASSERT_TRUE(model);
  std::vector<engine::SequenceRequest> requests;
  for (const GoldenPrompt& prompt : golden.exact) {
    engine::SequenceRequest request;
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
    EXPECT_EQ((*together)[i].text, alone->front().text);
    EXPECT_EQ((*together)[i].logprobs, alone->front().logprobs);
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
