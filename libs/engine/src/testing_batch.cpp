#include "testing_batch.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace conclave::engine::testing_batch {

using base::ErrorCode;
using tokenizer::kNoToken;

LocalModel& demo() {
  static const auto model = [] {
    LoadOptions options;
    options.threads = 2;
    return LocalModel::load(std::string(CONCLAVE_SOURCE_DIR) + "/models/demo/conclave-demo.gguf",
                            options)
        .value();
  }();
  return *model;
}

std::vector<std::int32_t> encode(const std::string& text) {
  return demo().tokenizer().encode(text, {.parse_special = true, .add_special = false}).value();
}

std::vector<std::int32_t> question(const std::string& text) {
  return encode("<|im_start|>user\n" + text + "<|im_end|>\n<|im_start|>assistant\n");
}

SequenceRequest request_for(const std::string& text, std::uint32_t max_tokens) {
  SequenceRequest request;
  request.prompt = question(text);
  request.max_tokens = max_tokens;
  request.logprobs = true;
  return request;
}

std::vector<SequenceRequest> varied_requests() {
  std::vector<SequenceRequest> requests;
  for (const char* text : {"What is 47 + 385?", "What is 12 - 7?", "Sort 5 3 9 1.", "Hello",
                           "Repeat: the quick brown fox jumps over the lazy dog, twice a day."}) {
    SequenceRequest request = endless(text, 10 + 3 * static_cast<std::uint32_t>(requests.size()));
    request.top_logprobs = static_cast<std::uint32_t>(requests.size() % 3);
    request.sampling.temperature = requests.size() % 2 == 0 ? 1.0f : 0.0f;
    request.sampling.seed = requests.size();
    request.sampling.repetition_penalty = requests.size() == 2 ? 1.3f : 1.0f;
    requests.push_back(std::move(request));
  }
  return requests;
}

SequenceRequest endless(const std::string& text, std::uint32_t max_tokens) {
  SequenceRequest request = request_for(text, max_tokens);
  request.ignore_eos = true;
  return request;
}

void Outcome::add(const TokenEvent& event) {
  EXPECT_EQ(finish, FinishReason::kNone) << "an event after the last";
  if (event.token != kNoToken) {
    tokens.push_back(event.token);
    logprobs.push_back(event.logprob);
    top.push_back(event.top);
  }
  prompt.insert(prompt.end(), event.prompt.begin(), event.prompt.end());
  text += event.text;
  texts.push_back(event.text);
  finish = event.finish;
  stop_token = event.stop_token;
  stop_string = event.stop_string;
  cached_tokens = event.cached_tokens;
  degraded += event.degraded;
  pairs += event.pairs;
  device_us += event.device_us;
  error = event.error;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

void expect_same(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.top, b.top);
  EXPECT_EQ(a.prompt, b.prompt);
  EXPECT_EQ(a.finish, b.finish);
  EXPECT_TRUE(same_bits(a.logprobs, b.logprobs));
}

base::Status FaultyExperts::run(std::uint32_t layer, const float* x, std::size_t rows,
                                std::span<const model::ExpertPair> pairs,
                                std::span<const float*> outputs) {
  if (fail_calls > 0) {
    --fail_calls;
    return base::fail(ErrorCode::kUnavailable, "no worker has the expert");
  }
  device_us_ += us_per_call;
  if (layer < layers_.size()) {
    Layer& here = layers_[layer];
    const auto lost = std::ranges::find_if(
        pairs, [&](const model::ExpertPair& pair) { return here.lost[pair.expert] != 0; });
    if (lost != pairs.end() && here.known != here.lost) {
      here.known = here.lost;
      ++absences_;
      return base::fail(ErrorCode::kUnavailable, "experts are absent");
    }
    if (lost != pairs.end()) ++waited;
  }
  CONCLAVE_TRY_VOID(demo().experts().run(layer, x, rows, pairs, outputs));
  rows_run += rows;
  poison_.assign(demo().config().hidden, std::numeric_limits<float>::quiet_NaN());
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    if (pairs[p].row == poisoned_row) outputs[p] = poison_.data();
  }
  return {};
}

void FaultyExperts::start(std::size_t batch, std::uint32_t layer, const float* x, std::size_t rows,
                          std::span<const model::ExpertPair> pairs) {
  gated_[batch] = absences_;
  ExpertBackend::start(batch, layer, x, rows, pairs);
}

base::Status FaultyExperts::finish(std::size_t batch, std::span<const float*> outputs) {
  if (gated_[batch] != absences_) {
    return base::fail(ErrorCode::kUnavailable, "experts are absent that its gate had");
  }
  return ExpertBackend::finish(batch, outputs);
}

std::span<const std::uint8_t> FaultyExperts::absent(std::uint32_t layer) const {
  if (layer >= layers_.size()) return {};
  const auto& known = layers_[layer].known;
  return std::ranges::count(known, 0) == static_cast<std::ptrdiff_t>(known.size())
             ? std::span<const std::uint8_t>()
             : known;
}

void FaultyExperts::lose(std::uint32_t layer, std::uint32_t expert) {
  const std::vector<std::uint8_t> none(demo().config().gate.experts, 0);
  if (layers_.empty()) layers_.resize(demo().config().layers, {none, none});
  layers_[layer].lost[expert] = 1;
}

void FaultyExperts::recover() {
  layers_.clear();
  ++absences_;
}

void BatchTest::start(const BatcherOptions& options) {
  outcomes.clear();
  batcher.reset();
  pool = make_kv_pool(demo().config(), options).value();
  batcher.emplace(demo().backbone(), experts, *pool, demo().tokenizer(), demo().compute(), options);
}

SequenceId BatchTest::submit(SequenceRequest request) {
  const auto id = batcher->submit(std::move(request));
  EXPECT_TRUE(id) << id.error().to_string();
  return id.value_or(SequenceId{});
}

base::Error BatchTest::refusal(SequenceRequest request) {
  const auto id = batcher->submit(std::move(request));
  EXPECT_FALSE(id);
  return id ? base::Error{} : id.error();
}

void BatchTest::step() {
  for (const TokenEvent& event : batcher->step()) outcomes[event.id].add(event);
}

void BatchTest::finish() {
  while (batcher->has_work()) step();
  const BatcherStats stats = batcher->stats();
  EXPECT_EQ(stats.running, 0u);
  EXPECT_EQ(stats.waiting, 0u);
  EXPECT_EQ(stats.kv_tokens_used, 0u);
}

Outcome BatchTest::alone(SequenceRequest request) {
  start();
  const SequenceId id = submit(std::move(request));
  finish();
  return outcomes[id];
}

}  // namespace conclave::engine::testing_batch
