// The subcommands of `conclave`. Each adds itself to the command line and gets a callback that runs
// it; errors come back as base::Error and become exit code 1 in main.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// Set by the subcommand that the user chose, run after parsing.
using Action = std::function<base::Status()>;

void add_inspect(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_serve(CLI::App& app, Action& action);
void add_up(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_status(CLI::App& app, Action& action);
void add_keys(CLI::App& app, Action& action);
void add_experts(CLI::App& app, Action& action);
void add_workers(CLI::App& app, Action& action);
void add_models(CLI::App& app, Action& action);
void add_tenants(CLI::App& app, Action& action);
void add_usage(CLI::App& app, Action& action);
void add_audit(CLI::App& app, Action& action);

}  // namespace conclave::cli
