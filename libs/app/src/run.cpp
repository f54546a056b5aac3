#include "conclave/app/run.hpp"

#include <iostream>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "conclave/app/version.hpp"
#include "conclave/config/command_line.hpp"
#include "probe.hpp"

namespace conclave::app {

namespace {

// What is left of the command line once its first word is taken: settings, as for the service.
std::vector<const char*> without_word(int argc, const char* const* argv) {
  std::vector<const char*> rest{argv[0]};
  rest.insert(rest.end(), argv + 2, argv + argc);
  return rest;
}

}  // namespace

int run_service(const ServiceRecipe& recipe, int argc, const char* const* argv) {
  ProcessSettings settings;
  std::vector<config::Field> fields = recipe.fields;
  config::append_sections(fields, settings);
  const config::Program program{"conclave-" + recipe.name, recipe.description,
                                std::string(version())};
  const std::optional<Probe> probe = argc > 1 ? probe_of(argv[1]) : std::nullopt;
  std::vector<const char*> arguments(argv, argv + argc);
  if (probe) arguments = without_word(argc, argv);
  const auto outcome = config::parse_command_line(
      program, fields, static_cast<int>(arguments.size()), arguments.data(), std::cout);
  if (!outcome) {
    std::cerr << program.name << ": " << outcome.error().message << "\n";
    return kExitUsage;
  }
  if (*outcome == config::Outcome::kDone) {
    return std::cout.flush() ? kExitOk : kExitFailed;
  }
  if (probe) {
    const base::Status status = run_probe(*probe, settings.admin);
    if (status) return kExitOk;
    std::cerr << program.name << ": " << status.error().message << "\n";
    return status.error().code == base::ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
  }
  return run_process(recipe.name, settings, std::span(&recipe, 1));
}

}  // namespace conclave::app
