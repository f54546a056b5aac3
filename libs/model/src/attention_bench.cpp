// Speed of attention over the cache, projections not counted: decoding one token of each of some
// sequences at a context, and prompts in steps of 512 rows. Shapes of open models: grouped queries
// (32 heads of 128, 4 KV heads), plain heads (16 of 64), latent (128 heads over one row of 576).
//   decode/SHAPE/TYPE/context/sequences   prefill/SHAPE/TYPE/tokens
// GB/s counts each cached byte once a step, GFLOP/s two products of each visible position.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "conclave/model/attention.hpp"

namespace conclave::model {
namespace {

struct Shape {
  const char* name;
  const char* architecture;
  std::uint32_t heads, kv_heads, key_dim, value_dim;
};

constexpr Shape kShapes[] = {
    {"gqa", "qwen3moe", 32, 4, 128, 128},
    {"mha", "qwen3moe", 16, 16, 64, 64},
    {"mla", "deepseek2", 128, 1, 576, 512},
};

constexpr std::uint32_t kStepRows = 512;
constexpr std::uint32_t kLayers = 12;
constexpr std::uint64_t kCacheBytes = std::uint64_t{2} << 30;

// With as many layers as fit in kCacheBytes, one at least: a block of a real cache has them all,
// and a processor's caches hold little of it.
ModelConfig config_of(const Shape& shape, KvType type, std::uint32_t sequences,
                      std::uint32_t context) {
  ModelConfig config;
  config.architecture = find_architecture(shape.architecture).value();
  config.layers = 1;
  config.attention.heads = shape.heads;
  config.attention.kv_heads = shape.kv_heads;
  config.attention.key_dim = shape.key_dim;
  config.attention.value_dim = shape.value_dim;
  config.attention.scale = 0.1f;
  const std::uint64_t layer = sequences * kv_blocks_of(context) * KvPool::block_bytes(config, type);
  config.layers =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(kCacheBytes / layer, 1, kLayers));
  return config;
}

// Sequences of `context` tokens with random keys and values.
class Cache {
 public:
  Cache(const ModelConfig& config, const kernels::KernelTable& kernels, KvType type,
        std::uint32_t sequences, std::uint32_t context)
      : pool(KvPool::create(config, type, sequences * kv_blocks_of(context)).value()) {
    std::mt19937 random(1);
    std::vector<KvBlockId> ids(pool->blocks());
    for (KvBlockId id = 0; id < ids.size(); ++id) ids[id] = id;
    std::shuffle(ids.begin(), ids.end(), random);
    const AttentionConfig& a = config.attention;
    std::normal_distribution<float> normal;
    std::vector<float> rows(kKvBlockTokens * (a.key_dim + a.value_dim));
    for (float& value : rows) value = normal(random);
    for (const KvBlockId id : ids) {
      for (std::uint32_t i = 0; i < config.layers * a.kv_heads; ++i) {
        kernels.store_kv({pool->layout(), pool->head(id, i / a.kv_heads, i % a.kv_heads), 0,
                          kKvBlockTokens, rows.data(), a.key_dim, rows.data(), a.value_dim});
      }
    }
    const std::size_t each = kv_blocks_of(context);
    for (std::uint32_t s = 0; s < sequences; ++s) {
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(s * each);
      tables.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(each));
    }
  }

  std::unique_ptr<KvPool> pool;
  std::vector<std::vector<KvBlockId>> tables;
};

struct Work {
  double bytes = 0.0;
  double operations = 0.0;
};

// Runs the attention of rows [begin, end) of each sequence once in every layer.
Work run_step(const kernels::Compute& compute, const ModelConfig& config, const Cache& cache,
              std::uint32_t begin, std::uint32_t end, StepPlan& plan, base::AlignedVector<float>& q,
              base::AlignedVector<float>& out) {
  const AttentionConfig& a = config.attention;
  std::vector<RowPlace> places;
  Work work;
  for (const auto& table : cache.tables) {
    for (std::uint32_t p = begin; p < end; ++p) {
      places.push_back({table, p});
      work.operations += 2.0 * (p + 1) * a.heads * (a.key_dim + a.value_dim) * config.layers;
    }
    work.bytes += static_cast<double>(kv_blocks_of(end) * cache.pool->block_bytes());
  }
  if (q.size() < places.size() * a.heads * a.key_dim) {
    q.assign(places.size() * a.heads * a.key_dim, 0.01f);
    out.resize(places.size() * a.heads * a.value_dim);
  }
  plan.build(config, places, *cache.pool, compute.pool.threads());
  const StepRows rows{places, cache.pool.get(), nullptr, nullptr, &plan, nullptr};
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    attend(compute, {config, layer, rows, q.data(), {}, out.data()});
  }
  return work;
}

kernels::Isa isa_of_environment() {
  const char* name = std::getenv("CONCLAVE_ISA");
  return kernels::choose_isa(name == nullptr ? "" : name).value();
}

void report(benchmark::State& state, const Work& work) {
  const auto per_second = [](double amount) {
    return benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["GB/s"] = per_second(work.bytes);
  state.counters["GFLOP/s"] = per_second(work.operations);
}

void decode(benchmark::State& state, const Shape& shape, KvType type) {
  const auto context = static_cast<std::uint32_t>(state.range(0));
  const auto sequences = static_cast<std::uint32_t>(state.range(1));
  const ModelConfig config = config_of(shape, type, sequences, context);
  base::ThreadPool pool(2);
  const kernels::Compute compute{kernels::kernel_table(isa_of_environment()), pool};
  const Cache cache(config, compute.kernels, type, sequences, context);
  StepPlan plan;
  base::AlignedVector<float> q, out;
  Work work;
  for (auto _ : state) {
    work = run_step(compute, config, cache, context - 1, context, plan, q, out);
  }
  report(state, work);
}

void prefill(benchmark::State& state, const Shape& shape, KvType type) {
  const auto tokens = static_cast<std::uint32_t>(state.range(0));
  const ModelConfig config = config_of(shape, type, 1, tokens);
  base::ThreadPool pool(2);
  const kernels::Compute compute{kernels::kernel_table(isa_of_environment()), pool};
  const Cache cache(config, compute.kernels, type, 1, tokens);
  StepPlan plan;
  base::AlignedVector<float> q, out;
  Work work;
  for (auto _ : state) {
    work = {};
    for (std::uint32_t begin = 0; begin < tokens; begin += kStepRows) {
      const Work step = run_step(compute, config, cache, begin, begin + kStepRows, plan, q, out);
      work.operations += step.operations;
      work.bytes += step.bytes;
    }
  }
  report(state, work);
}

const int kRegistered = [] {
  for (const Shape& shape : kShapes) {
    for (const auto& [type_name, type] : enum_names(KvType{})) {
      const std::string name = std::string(shape.name) + "/" + std::string(type_name);
      auto* decodes = benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, shape, type);
      for (const std::int64_t context : {192, 512, 2048, 8192, 32768}) {
        for (const std::int64_t sequences : {1, 8, 32}) decodes->Args({context, sequences});
      }
      decodes->Unit(benchmark::kMicrosecond)->UseRealTime()->MinTime(0.2);
      benchmark::RegisterBenchmark(("prefill/" + name).c_str(), prefill, shape, type)
          ->Arg(512)
          ->Arg(8192)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime()
          ->MinTime(0.2);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace conclave::model
