// The options that every subcommand with a model shares: which file, how many threads, which
// instruction set; and loading it with a progress bar.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/engine/local_model.hpp"

namespace conclave::cli {

struct ModelOptions {
  std::string path;
  unsigned threads = 0;
  std::string isa;
  model::KvType kv_type = model::KvType::kF16;

  /// See SamplingParams::visit.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("kv-type", kv_type, "Numbers of the KV cache");
  }
};

/// Adds a model (also -m/--model), --threads, --isa and --kv-type.
void add_model_options(CLI::App& app, ModelOptions& options);

/// Adds --threads and --isa.
void add_compute_options(CLI::App& app, unsigned& threads, std::string& isa);

/// In bytes; the largest number where the system does not tell.
std::uint64_t available_memory();

base::Result<std::unique_ptr<engine::LocalModel>> load_model(const ModelOptions& options);

/// `text`, or all of standard input if it is "-". kInvalidArgument beyond 16 MiB.
base::Result<std::string> text_or_stdin(const std::string& text);

}  // namespace conclave::cli
