// Bytes of text encoded and decoded per second of one thread.
//
//   CONCLAVE_BENCH_VOCAB=vocab.gguf [CONCLAVE_BENCH_TEXT=corpus.txt] tokenizer_tokenizer_bench
//
// Without a text, one of about a megabyte is made: English words by Zipf's law, which has fewer
// different words than prose and so flatters the word cache; give prose for a figure to quote.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "conclave/gguf/file.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace {

using conclave::gguf::File;
using conclave::tokenizer::TokenId;
using conclave::tokenizer::Tokenizer;

// Nothing if CONCLAVE_BENCH_VOCAB names no usable file; the benchmark then says so and ends.
const Tokenizer* vocabulary(benchmark::State& state) {
  static const auto loaded = [] {
    const char* path = std::getenv("CONCLAVE_BENCH_VOCAB");
    auto file = File::open(path == nullptr ? "" : path);
    if (!file) return conclave::base::Result<Tokenizer>(conclave::base::fail(file.error()));
    return Tokenizer::from_metadata(file->metadata());
  }();
  if (!loaded) state.SkipWithError(("CONCLAVE_BENCH_VOCAB: " + loaded.error().message).c_str());
  return loaded ? &*loaded : nullptr;
}

std::string zipf_text() {
  std::mt19937 random(1);
  std::vector<std::string> words(20000);
  for (std::string& word : words) {
    for (std::size_t i = 2 + random() % 9; i > 0; --i) word += "etaoinshrdlucmfwyp"[random() % 18];
  }
  std::uniform_real_distribution<double> uniform(0, std::log(static_cast<double>(words.size())));
  std::string text;
  while (text.size() < 1000000) {
    text += words[static_cast<std::size_t>(std::exp(uniform(random))) - 1];
    text += random() % 12 == 0 ? ". " : " ";
  }
  return text;
}

void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

const std::string& text() {
  static const std::string loaded = [] {
    const char* path = std::getenv("CONCLAVE_BENCH_TEXT");
    if (path == nullptr) return zipf_text();
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  return loaded;
}

// Argument: bytes of text per call.
void encode(benchmark::State& state) {
  const Tokenizer* tokenizer = vocabulary(state);
  const auto part = std::string_view(text()).substr(0, static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(part)->data());
  count_bytes(state, part.size());
}
BENCHMARK(encode)->Arg(100)->Arg(4000)->Arg(1000000)->Unit(benchmark::kMicrosecond);

// One word: the heap.
void encode_one_long_word(benchmark::State& state) {
  const Tokenizer* tokenizer = vocabulary(state);
  const std::string word(static_cast<std::size_t>(state.range(0)), 'a');
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(word)->data());
  count_bytes(state, word.size());
}
BENCHMARK(encode_one_long_word)->Arg(10000)->Arg(1000000)->Unit(benchmark::kMicrosecond);

void decode(benchmark::State& state) {
  const Tokenizer* tokenizer = vocabulary(state);
  if (tokenizer == nullptr) return;
  const std::vector<TokenId> ids = *tokenizer->encode(text());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->decode(ids).data());
  count_bytes(state, text().size());
}
BENCHMARK(decode)->Unit(benchmark::kMicrosecond);

}  // namespace
