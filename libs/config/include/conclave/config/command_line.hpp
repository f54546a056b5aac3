// The command line of a program that has settings and no subcommands: every field as a flag, an
// environment variable and a key of the file, plus --config, --print-config, --help and --version.
// Precedence: flag > environment > file > default. CLI11 does the work and stays inside.
#pragma once

#include <iosfwd>
#include <span>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/config/fields.hpp"

namespace conclave::config {

struct Program {
  std::string name;         // "conclave-router"
  std::string description;  // one sentence
  std::string version;
};

enum class Outcome : unsigned char {
  kRun,   // the fields have their values
  kDone,  // --help, --version or --print-config was answered on `out`
};

/// Sets the fields. kInvalidArgument with one line that names the flag, variable or key: an unknown
/// one, a value out of range, a file that cannot be read.
base::Result<Outcome> parse_command_line(const Program& program, std::span<const Field> fields,
                                         int argc, const char* const* argv, std::ostream& out);

}  // namespace conclave::config
