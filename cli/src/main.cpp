// `conclave`, the command. Exit codes: 0 done, 1 the work failed, 2 the command line was wrong.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <new>

#include "commands.hpp"
#include "conclave/config/bind.hpp"

namespace {

using namespace conclave;

// The libraries answer with errors; what they do not catch is memory, and output that nobody takes.
base::Status run(const cli::Action& action) {
  try {
    CONCLAVE_TRY_VOID(action());
  } catch (const std::bad_alloc&) {
    return base::fail(base::ErrorCode::kOverloaded, "no memory left");
  }
  if (!std::cout.flush()) {
    return base::fail(base::ErrorCode::kUnavailable, "standard output cannot be written");
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Conclave: Mixture-of-Experts models as elastic microservices");
  app.set_version_flag("--version", CONCLAVE_VERSION);
  app.require_subcommand(1);
  app.set_config("--config", "", "Read settings from a TOML file");
  app.config_formatter(std::make_shared<config::EnvironmentFirst>(app));
  app.allow_config_extras(CLI::config_extras_mode::error);
  cli::Action action;
  cli::add_inspect(app, action);
  cli::add_tokenize(app, action);
  cli::add_generate(app, action);
  cli::add_eval(app, action);
  cli::add_bench(app, action);
  cli::add_serve(app, action);
  cli::add_up(app, action);
  cli::add_chat(app, action);
  cli::add_status(app, action);
  cli::add_models(app, action);
  cli::add_keys(app, action);
  cli::add_experts(app, action);
  cli::add_workers(app, action);
  cli::add_tenants(app, action);
  cli::add_usage(app, action);
  cli::add_audit(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const base::Status status = run(action);
  if (status) return 0;
  std::cerr << "conclave: " << status.error().to_string() << "\n";
  return 1;
}
