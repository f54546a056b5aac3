#include "conclave/app/run.hpp"

#include <iostream>
#include <span>
#include <utility>
#include <vector>

#include "conclave/app/version.hpp"
#include "conclave/config/command_line.hpp"

namespace conclave::app {

int run_service(const ServiceRecipe& recipe, int argc, const char* const* argv) {
  ProcessSettings settings;
  std::vector<config::Field> fields = recipe.fields;
  config::append_sections(fields, settings);
  const config::Program program{"conclave-" + recipe.name, recipe.description,
                                std::string(version())};
  const auto outcome = config::parse_command_line(program, fields, argc, argv, std::cout);
  if (!outcome) {
    std::cerr << program.name << ": " << outcome.error().message << "\n";
    return kExitUsage;
  }
  if (*outcome == config::Outcome::kDone) {
    return std::cout.flush() ? kExitOk : kExitFailed;
  }
  return run_process(recipe.name, settings, std::span(&recipe, 1));
}

}  // namespace conclave::app
