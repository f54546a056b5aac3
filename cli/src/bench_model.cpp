#include "bench_model.hpp"

#include <utility>
#include <vector>

#include "conclave/engine/generator.hpp"
#include "conclave/engine/philox.hpp"

namespace conclave::cli {
namespace {

std::vector<std::int32_t> random_prompt(const BenchRun& run, std::size_t sequence,
                                        std::uint32_t vocab) {
  std::vector<std::int32_t> tokens(run.prompt_tokens);
  const auto key = static_cast<std::uint64_t>(sequence) << 32 | run.round;
  for (std::uint32_t i = 0; i < run.prompt_tokens; ++i) {
    const auto draw = engine::uniform_draw(run.seed, key << 20 | i);
    tokens[i] = static_cast<std::int32_t>(draw * vocab);
  }
  return tokens;
}

}  // namespace

base::Result<StepTimes> run_bench(engine::LocalModel& model, const BenchRun& run,
                                  const std::stop_token& stop) {
  std::vector<engine::SequenceRequest> requests(run.sequences);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = random_prompt(run, i, model.config().vocab);
    requests[i].max_tokens = run.new_tokens;
    requests[i].ignore_eos = true;
    requests[i].sampling.temperature = 1.0f;
    requests[i].sampling.seed = run.seed + i;
  }
  engine::Generator generator(model);
  StepTimes times(run.sequences, std::chrono::steady_clock::now());
  const auto on_event = [&](std::size_t sequence, const engine::TokenEvent& event) {
    if (event.token != tokenizer::kNoToken) {
      times.add(sequence, event.finish != engine::FinishReason::kNone,
                std::chrono::steady_clock::now());
    }
    return !stop.stop_requested();
  };
  CONCLAVE_TRY_VOID(generator.run(requests, on_event));
  if (stop.stop_requested()) return base::fail(base::ErrorCode::kCancelled, "interrupted");
  return times;
}

}  // namespace conclave::cli
