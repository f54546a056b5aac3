// The whole life of a service process, so that a service's main is one call:
//   int main(int argc, char** argv) { return conclave::app::run<RouterService>(argc, argv); }
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "conclave/app/service.hpp"
#include "conclave/config/fields.hpp"

namespace conclave::app {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // the service could not start, or failed
inline constexpr int kExitUsage = 2;   // the command line, the environment or the file was wrong

/// A service before it is created.
struct ServiceRecipe {
  std::string name;
  std::string description;
  std::vector<config::Field> fields;  // its settings; the process adds node, log and admin
  std::function<base::Result<std::unique_ptr<AnyService>>(ServiceContext& context)> create;
};

/// Settings -> log, metrics and admin endpoint -> create -> start -> wait for SIGTERM or SIGINT (or
/// ServiceContext::fail) -> not ready -> drain -> stop. A second signal exits at once. Nothing is
/// written to stdout except the answers to --help, --version and --print-config; an error is one
/// line on stderr. Call it from main, before there are threads.
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
