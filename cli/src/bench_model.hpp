// One loaded model and what `conclave bench` measures on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>

#include "bench_steps.hpp"
#include "conclave/base/result.hpp"
#include "conclave/engine/local_model.hpp"

namespace conclave::cli {

/// What one run computes. Prompts are random tokens, a pure function of (seed, round, sequence,
/// position), so every model gets the same draws and no run finds what an earlier one has cached;
/// output is sampled at temperature 1, so that tokens, and with them experts, vary as in use.
struct BenchRun {
  std::size_t sequences = 1;
  std::uint32_t prompt_tokens = 1;
  std::uint32_t new_tokens = 1;
  std::uint64_t seed = 0;
  std::uint64_t round = 0;
};

/// Runs all sequences of `run` in one batcher to their ends. kCancelled once `stop` asks for it,
/// after the step at hand; errors of Generator::run.
base::Result<StepTimes> run_bench(engine::LocalModel& model, const BenchRun& run,
                                  const std::stop_token& stop);

}  // namespace conclave::cli
