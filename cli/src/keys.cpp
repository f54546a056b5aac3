// `conclave keys fabric`: the CURVE keys by which services know each other.
#include <iostream>
#include <memory>

#include "commands.hpp"
#include "conclave/fabric/keys.hpp"

namespace conclave::cli {

void add_keys(CLI::App& app, Action& action) {
  CLI::App* keys = app.add_subcommand("keys", "Make keys");
  keys->require_subcommand(1);
  auto directory = std::make_shared<std::string>("keys");
  CLI::App* fabric = keys->add_subcommand(
      "fabric", "Make a key pair for every service; files that exist stay as they are");
  fabric->add_option("--out", *directory, "The directory")->capture_default_str();
  fabric->callback([directory, &action] {
    action = [directory]() -> base::Status {
      CONCLAVE_TRY(const auto written, fabric::write_keys(*directory));
      for (const std::string& name : written) std::cout << *directory << "/" << name << "\n";
      if (written.empty()) std::cout << "all keys were there already\n";
      return {};
    };
  });
}

}  // namespace conclave::cli
