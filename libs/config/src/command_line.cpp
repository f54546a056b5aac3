#include "conclave/config/command_line.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <sstream>

#include "conclave/config/bind.hpp"

namespace conclave::config {

base::Result<Outcome> parse_command_line(const Program& program, std::span<const Field> fields,
                                         int argc, const char* const* argv, std::ostream& out) {
  CLI::App app(program.description, program.name);
  app.set_version_flag("--version", program.version);
  // CLI11 reads the file before the environment, so the variable is its default.
  const char* const variable = std::getenv("CONCLAVE_CONFIG");
  const std::string file = variable == nullptr ? "" : variable;
  app.set_config("--config", file, "Read settings from a TOML file (CONCLAVE_CONFIG)",
                 !file.empty());
  app.config_formatter(std::make_shared<EnvironmentFirst>(app));
  bool is_print_wanted = false;
  app.add_flag("--print-config", is_print_wanted, "Print the settings as TOML and exit")
      ->configurable(false);
  bind_fields(app, fields);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& answer) {
    app.exit(answer, out, out);
    return Outcome::kDone;
  } catch (const CLI::Error& error) {
    std::string line = error.what();
    std::replace(line.begin(), line.end(), '\n', ' ');
    return base::fail(base::ErrorCode::kInvalidArgument, line);
  }
  if (!is_print_wanted) return Outcome::kRun;
  out << to_toml(fields);
  return Outcome::kDone;
}

}  // namespace conclave::config
