// `conclave`, the command. Exit codes: 0 done, 1 the work failed, 2 the command line was wrong.
#include <CLI/CLI.hpp>
#include <iostream>

#include "commands.hpp"

int main(int argc, char** argv) {
  using namespace conclave;

  CLI::App app("Conclave: Mixture-of-Experts models as elastic microservices");
  app.set_version_flag("--version", CONCLAVE_VERSION);
  app.require_subcommand(1);
  app.set_config("--config", "", "Read settings from a TOML file");
  app.allow_config_extras(CLI::config_extras_mode::error);
  cli::Action action;
  cli::add_inspect(app, action);
  cli::add_tokenize(app, action);
  cli::add_generate(app, action);
  cli::add_eval(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const base::Status status = action();
  if (status) return 0;
  std::cerr << "conclave: " << status.error().to_string() << "\n";
  return 1;
}
