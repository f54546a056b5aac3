// `conclave bench serve`: drives an OpenAI endpoint and reports what its users would see.
#pragma once

#include "commands.hpp"

namespace conclave::cli {

/// Adds itself to `bench` and returns what it added.
CLI::App* add_bench_serve(CLI::App& bench, Action& action);

}  // namespace conclave::cli
