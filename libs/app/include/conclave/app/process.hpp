// The life of a process that holds services: one, as in compose and helm, or all of them, as in
// `conclave serve`.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/app/admin.hpp"
#include "conclave/app/node.hpp"
#include "conclave/app/service.hpp"
#include "conclave/config/fields.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/trace.hpp"

namespace conclave::app {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // a service could not start, or failed
inline constexpr int kExitUsage = 2;   // the command line, the environment or the file was wrong

/// What every process can be told, beside what its services can.
struct ProcessSettings {
  NodeSettings node;
  telemetry::LogSettings log;
  AdminSettings admin;
  telemetry::TraceSettings tracing;

  template <class Visitor>
  void sections(Visitor&& v) {
    v("node", node);
    v("log", log);
    v("admin", admin);
    v("tracing", tracing);
  }
};

/// A service before it is created.
struct ServiceRecipe {
  std::string name;                   // of its log, too
  std::string description;            // one sentence
  std::vector<config::Field> fields;  // its settings
  std::function<base::Result<std::unique_ptr<AnyService>>(ServiceContext& context)> create;
};

/// Log, metrics, admin endpoint and tracing -> create and start in order -> wait for SIGTERM,
/// SIGINT or ServiceContext::fail -> not ready -> drain -> stop in reverse. A second signal exits
/// at once. The exit code: kExitUsage also for a kInvalidArgument on the way up, since a setting
/// caused it. An error is one line on stderr, in the log's form.
int run_process(std::string_view name, const ProcessSettings& settings,
                std::span<const ServiceRecipe> recipes);

}  // namespace conclave::app
