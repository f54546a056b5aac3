// The whole life of a service process, so that a service's main is one call:
//   int main(int argc, char** argv) { return conclave::app::run<RouterService>(argc, argv); }
#pragma once

#include <string>

#include "conclave/app/process.hpp"
#include "conclave/app/service.hpp"
#include "conclave/config/fields.hpp"

namespace conclave::app {

/// Reads the settings (the service's and the process's: sections node, log, admin, tracing), then
/// run_process(). Nothing is written to stdout except the answers to --help, --version and
/// --print-config. With `health` or `ready` as its first argument it does not run the service but
/// asks the one that runs with these settings: exit code kExitOk, or kExitFailed with the reason on
/// stderr. Call it from main, before there are threads.
int run_service(const ServiceRecipe& recipe, int argc, const char* const* argv);

template <Service S>
int run(int argc, char** argv) {
  typename S::Settings settings;
  ServiceRecipe recipe{std::string(S::kName), std::string(S::kDescription), {}, {}};
  config::append_sections(recipe.fields, settings);
  recipe.create = [&settings](ServiceContext& context) {
    return make_service<S>(settings, context);
  };
  return run_service(recipe, argc, argv);
}

}  // namespace conclave::app
