// Part of a model's experts against all of them, on models with every kind of weights, layouts and
// biases: the numbers of all of them together are held to a reference by tests/golden. And experts
// of a larger layer that are cut into tasks in different ways.
#include "conclave/model/expert_set.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <utility>

#include "conclave/model/local_experts.hpp"

namespace conclave::model {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

constexpr std::size_t kRows = 11;

struct ExpertSetTest : testing::TestWithParam<std::string> {
  explicit ExpertSetTest(const std::string& model = GetParam())
      : file(gguf::File::open(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/models/" + model +
                              ".gguf")
                 .value()),
        config(read_config(file).value()),
        layer(config.layers - 1),
        forms(row_forms(file, config, layer).value()) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    x.resize(kRows * config.hidden);
    for (float& value : x) value = normal(random);
    for (std::uint32_t row = 0; row < kRows; ++row) {
      for (std::uint32_t k = 0; k < 2; ++k) {
        pairs.push_back({row, static_cast<std::uint32_t>(random() % config.gate.experts)});
      }
    }
    EXPECT_TRUE(order.sort(pairs, kRows, config.gate.experts));
  }

  [[nodiscard]] Expert load(std::uint32_t index) const {
    return load_expert(file, config, {layer, index}).value();
  }

  // The rows in the forms that this layer takes, and no other.
  [[nodiscard]] kernels::RowsView rows() {
    kernels::RowsView view{.values = x.data(), .rows = kRows, .columns = config.hidden};
    if (forms.quantized()) {
      view = kernels::quantize(compute, x.data(), kRows, config.hidden, forms.scale_block, room);
      view.sums = {};
    }
    if (!forms.floats) view.values = nullptr;
    return view;
  }

  [[nodiscard]] std::vector<float> with_all_experts() {
    const auto local = LocalExperts::load(file, config, compute, {}).value();
    std::vector<const float*> outputs(pairs.size());
    EXPECT_TRUE(local->run(layer, x.data(), kRows, pairs, outputs));
    std::vector<float> sorted(pairs.size() * config.hidden);
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      std::copy_n(outputs[p], config.hidden, sorted.data() + order.places()[p] * config.hidden);
    }
    return sorted;
  }

  gguf::File file;
  ModelConfig config;
  std::uint32_t layer;
  RowForms forms;
  base::ThreadPool pool{2};
  kernels::Compute compute{kernels::kernel_table(kernels::best_isa()), pool};
  kernels::QuantizedRows room;
  std::vector<float> x;
  std::vector<ExpertPair> pairs;
  PairOrder order;
};

TEST_P(ExpertSetTest, APartComputesTheBitsOfTheWhole) {
  const std::vector<float> whole = with_all_experts();
  for (std::uint32_t parts : {1u, 2u, 3u}) {
    std::vector<float> y(whole.size(), -1.0f);
    for (std::uint32_t part = 0; part < parts; ++part) {
      ExpertSet set(config, compute);
      std::vector<ExpertPair> own;
      std::vector<std::size_t> places;
      for (std::uint32_t e = part; e < config.gate.experts; e += parts) {
        ASSERT_TRUE(set.insert({layer, e}, load(e)));
        const PairOrder::Run run = order.run(e);
        for (std::size_t i = run.first; i < run.first + run.count; ++i) {
          own.push_back(order.sorted()[i]);
          places.push_back(i);
        }
      }
      std::vector<float> out(own.size() * config.hidden);
      const auto status = set.run(layer, rows(), own, out.data());
      ASSERT_TRUE(status) << status.error().to_string();
      for (std::size_t i = 0; i < own.size(); ++i) {
        std::copy_n(out.data() + i * config.hidden, config.hidden,
                    y.data() + places[i] * config.hidden);
      }
    }
    EXPECT_EQ(std::memcmp(y.data(), whole.data(), y.size() * sizeof(float)), 0) << parts;
  }
}

TEST_P(ExpertSetTest, APairComputesTheSameAlone) {
  const std::vector<float> whole = with_all_experts();
  ExpertSet set(config, compute);
  for (std::uint32_t e = 0; e < config.gate.experts; ++e) {
    ASSERT_TRUE(set.insert({layer, e}, load(e)));
  }
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    std::vector<float> out(config.hidden);
    ASSERT_TRUE(set.run(layer, rows(), order.sorted().subspan(i, 1), out.data()));
    EXPECT_EQ(
        std::memcmp(out.data(), whole.data() + i * config.hidden, config.hidden * sizeof(float)),
        0);
  }
}

TEST_P(ExpertSetTest, RowsWithoutTheFormThatIsNeededAreRefused) {
  ExpertSet set(config, compute);
  ASSERT_TRUE(set.insert({layer, 0}, load(0)));
  const ExpertPair pair{0, 0};
  std::vector<float> y(config.hidden);
  kernels::RowsView without = rows();
  (forms.quantized() ? without.scales : without.values) = nullptr;
  const auto status = set.run(layer, without, std::span(&pair, 1), y.data());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.error().message, HasSubstr(forms.quantized() ? "8-bit" : "float"));
}

TEST_P(ExpertSetTest, RowsWithMoreScalesThanTheFormHasAreRefused) {
  if (forms.scale_block <= kernels::kRowBlock) return;
  ExpertSet set(config, compute);
  ASSERT_TRUE(set.insert({layer, 0}, load(0)));
  const ExpertPair pair{0, 0};
  std::vector<float> y(config.hidden);
  kernels::QuantizedRows finer;
  const auto status = set.run(
      layer, kernels::quantize(compute, x.data(), kRows, config.hidden, kernels::kRowBlock, finer),
      std::span(&pair, 1), y.data());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.error().message, HasSubstr("one scale for 256 values"));
}

INSTANTIATE_TEST_SUITE_P(Models, ExpertSetTest,
                         testing::Values("qwen3moe-f32", "qwen3moe-tied-f16", "qwen3moe-bf16",
                                         "qwen3moe-q8_0", "qwen3moe-q4_k", "qwen3moe-fused-f32",
                                         "gpt-oss-f32", "gpt-oss-mxfp4", "llama-split-experts-f32",
                                         "deepseek2-v3-f32"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

struct ExpertSetHostingTest : ExpertSetTest {
  ExpertSetHostingTest() : ExpertSetTest("deepseek2-v3-f32") {}

  ErrorCode code_of(std::uint32_t on_layer, const kernels::RowsView& view,
                    const std::vector<ExpertPair>& of) {
    std::vector<float> y(of.size() * config.hidden, 5.0f);
    const auto status = set.run(on_layer, view, of, y.data());
    EXPECT_FALSE(status);
    for (const float value : y) EXPECT_EQ(value, 5.0f);  // untouched
    return status ? ErrorCode::kInternal : status.error().code;
  }

  ExpertSet set{config, compute};
};

TEST_F(ExpertSetHostingTest, CountsWhatItHosts) {
  EXPECT_EQ(set.bytes(), 0u);
  const Expert expert = load(3);
  const std::size_t each = expert.bytes();
  ASSERT_TRUE(set.insert({layer, 3}, load(3)));
  ASSERT_TRUE(set.insert({layer, 5}, load(5)));
  ASSERT_TRUE(set.insert({layer, 3}, load(3)));  // in its own place
  EXPECT_EQ(set.size(), 2u);
  EXPECT_EQ(set.bytes(), 2 * each);
  EXPECT_TRUE(set.has({layer, 3}));
  EXPECT_FALSE(set.has({layer, 4}));
  EXPECT_TRUE(set.erase({layer, 3}));
  EXPECT_FALSE(set.erase({layer, 3}));
  EXPECT_FALSE(set.has({layer, 3}));
  EXPECT_EQ(set.bytes(), each);
}

TEST_F(ExpertSetHostingTest, NothingOutsideTheModelIsHosted) {
  for (const ExpertId id : {ExpertId{0, 0}, ExpertId{config.layers, 0},
                            ExpertId{layer, config.gate.experts}, ExpertId{~0u, ~0u}}) {
    const auto status = set.insert(id, load(0));
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_FALSE(set.has(id));
    EXPECT_FALSE(set.erase(id));
  }
  Expert swapped = load(0);
  std::swap(swapped.gate, swapped.down);
  swapped.up = Linear{};
  EXPECT_FALSE(set.insert({layer, 0}, std::move(swapped)));
  EXPECT_EQ(set.size(), 0u);
}

TEST_F(ExpertSetHostingTest, CallsThatCannotBeAreRefusedByKind) {
  ASSERT_TRUE(set.insert({layer, 1}, load(1)));
  ASSERT_TRUE(set.insert({layer, 2}, load(2)));
  EXPECT_EQ(code_of(layer, rows(), {{0, 1}, {0, 4}}), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(layer, rows(), {{0, 2}, {0, 1}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(layer, rows(), {{3, 1}, {2, 1}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(layer, rows(), {{kRows, 1}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(layer, rows(), {{0, config.gate.experts}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(0, rows(), {{0, 1}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(config.layers, rows(), {{0, 1}}), ErrorCode::kInvalidArgument);
  kernels::RowsView narrow = rows();
  narrow.columns -= 1;
  EXPECT_EQ(code_of(layer, narrow, {{0, 1}}), ErrorCode::kInvalidArgument);
  EXPECT_TRUE(set.run(layer, rows(), {}, nullptr));
}

// A layer whose first expert has most of the rows: it is cut into tiles, those after it are a task
// each, and the last ones are tiles again.
struct ExpertSetTasksTest : testing::TestWithParam<std::pair<gguf::BlockType, std::uint32_t>> {
  static constexpr std::uint32_t kExperts = 24;
  static constexpr std::uint32_t kHidden = 256;
  static constexpr std::uint32_t kManyRows = 100;  // more than are worked on at once

  ExpertSetTasksTest() {
    config.architecture = find_architecture("qwen3moe").value();
    config.layers = 1;
    config.hidden = kHidden;
    config.expert_ffn = GetParam().second;
    config.gate.experts = kExperts;
    config.gate.used = 1;
    for (std::uint32_t row = 0; row < kManyRows; ++row) pairs.push_back({row, 0});
    for (std::uint32_t expert = 1; expert < kExperts; ++expert) pairs.push_back({expert, expert});
    x = normal(std::size_t{kManyRows} * kHidden);
  }

  std::vector<float> normal(std::size_t n) {
    std::vector<float> out(n);
    std::normal_distribution<float> distribution(0.0f, 0.1f);
    for (float& value : out) value = distribution(random);
    return out;
  }

  Linear linear(std::uint32_t outputs, std::uint32_t inputs) {
    const gguf::BlockType type = GetParam().first;
    std::vector<std::byte> blocks(gguf::bytes_of(type, std::size_t{outputs} * inputs).value());
    if (type == gguf::BlockType::kQ4_K) {  // any bits, of which no scale is inf or NaN
      for (std::size_t i = 0; i < blocks.size(); i += 4) {
        const auto word = static_cast<std::uint32_t>(random() & 0x2F7F2F7Fu);
        std::memcpy(&blocks[i], &word, sizeof word);
      }
    } else {
      EXPECT_TRUE(gguf::quantize(type, normal(std::size_t{outputs} * inputs), blocks));
    }
    auto matrix = kernels::PackedMatrix::create(type, outputs, inputs, arena).value();
    matrix.fill(0, blocks);
    return {std::move(matrix), {}};
  }

  // Outputs of `pairs` on so many threads: all at once, or one expert after the other.
  std::vector<float> outputs(unsigned threads, bool together) {
    base::ThreadPool pool(threads);
    const kernels::Compute compute{kernels::kernel_table(kernels::best_isa()), pool};
    ExpertSet set(config, compute);
    random.seed(3);
    for (std::uint32_t expert = 0; expert < kExperts; ++expert) {
      EXPECT_TRUE(set.insert(
          {0, expert}, {linear(config.expert_ffn, kHidden), linear(config.expert_ffn, kHidden),
                        linear(kHidden, config.expert_ffn)}));
    }
    kernels::QuantizedRows room;
    const std::size_t block = kernels::scale_block(GetParam().first);
    kernels::RowsView rows{.values = x.data(), .rows = kManyRows, .columns = kHidden};
    if (block > 0) rows = kernels::quantize(compute, x.data(), kManyRows, kHidden, block, room);
    std::vector<float> y(pairs.size() * kHidden);
    for (std::size_t first = 0; first < pairs.size();) {
      std::size_t count = pairs.size();
      if (!together) count = first == 0 ? kManyRows : 1;
      EXPECT_TRUE(
          set.run(0, rows, std::span(pairs).subspan(first, count), y.data() + first * kHidden));
      first += count;
    }
    return y;
  }

  ModelConfig config;
  std::mt19937 random{7};
  base::Arena arena{0};
  std::vector<float> x;
  std::vector<ExpertPair> pairs;
};

TEST_P(ExpertSetTasksTest, HowExpertsAreCutDoesNotChangeABit) {
  const std::vector<float> expected = outputs(1, false);
  EXPECT_TRUE(std::ranges::any_of(expected, [](float value) { return value != 0.0f; }));
  for (const unsigned threads : {1u, 2u, 3u}) {
    for (const bool together : {false, true}) {
      const std::vector<float> y = outputs(threads, together);
      EXPECT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0)
          << threads << " threads, " << (together ? "all at once" : "one by one");
    }
  }
}

// Inner rows of one short tile more than whole ones, of whole ones, and of two blocks of 256.
INSTANTIATE_TEST_SUITE_P(Types, ExpertSetTasksTest,
                         testing::Values(std::pair{gguf::BlockType::kF32, 200u},
                                         std::pair{gguf::BlockType::kQ8_0, 96u},
                                         std::pair{gguf::BlockType::kQ4_K, 512u}),
                         [](const auto& test) {
                           return std::string(gguf::traits(test.param.first).name);
                         });

TEST(RowFormsTest, FollowTheTypesOfTheFile) {
  const auto forms = [](const std::string& name) {
    const auto file = gguf::File::open(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/models/" +
                                       name + ".gguf")
                          .value();
    return row_forms(file, read_config(file).value()).value();
  };
  const RowForms none{0, false}, blocks{32, false}, supers{256, false}, floats{0, true};
  EXPECT_THAT(forms("qwen3moe-q4_k"), testing::Each(supers));
  EXPECT_THAT(forms("gpt-oss-mxfp4"), testing::Each(blocks));
  EXPECT_THAT(forms("qwen3moe-bf16"), testing::Each(floats));
  EXPECT_THAT(forms("llama-split-experts-f32"), testing::Each(floats));
  EXPECT_THAT(forms("deepseek2-v3-f32"), testing::ElementsAre(none, floats));
}

TEST(RowFormsTest, ALayerWithoutExpertsHasNone) {
  const auto file = gguf::File::open(std::string(CONCLAVE_SOURCE_DIR) +
                                     "/tests/golden/models/deepseek2-v3-f32.gguf")
                        .value();
  const auto forms = row_forms(file, read_config(file).value(), 0);
  ASSERT_FALSE(forms);
  EXPECT_EQ(forms.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::model
