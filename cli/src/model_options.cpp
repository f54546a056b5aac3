#include "model_options.hpp"

#include <iostream>

#include "conclave/config/bind.hpp"
#include "conclave/devices/memory_limit.hpp"
#include "conclave/telemetry/progress_bar.hpp"

namespace conclave::cli {
namespace {

// More than the largest context of any open model in plain text.
constexpr std::size_t kStdinBytesMax = std::size_t{16} << 20;

}  // namespace

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("model,-m,--model", options.path, "The GGUF file (the first part of a split one)")
      ->required()
      ->envname("CONCLAVE_MODEL");
  add_compute_options(app, options.threads, options.isa);
  config::bind(app, options);
}

void add_compute_options(CLI::App& app, unsigned& threads, std::string& isa) {
  app.add_option("--threads", threads, "Compute threads (0: one for each processor)")
      ->check(config::within(0u, 1024u))
      ->capture_default_str()
      ->envname("CONCLAVE_THREADS");
  app.add_option("--isa", isa, "Instruction set: scalar, avx2, avx512 or amx (default: best)")
      ->envname("CONCLAVE_ISA");
}

std::uint64_t available_memory() { return devices::available_memory().value_or(~std::uint64_t{0}); }

base::Result<std::unique_ptr<engine::LocalModel>> load_model(const ModelOptions& options) {
  telemetry::ProgressBar bar("loading " + options.path);
  engine::LoadOptions load;
  load.threads = options.threads;
  load.isa = options.isa;
  load.memory_available = available_memory();
  load.progress = [&bar](std::size_t done, std::size_t total) { bar.update(done, total); };
  return engine::LocalModel::load(options.path, load);
}

base::Result<std::string> text_or_stdin(const std::string& text) {
  if (text != "-") return text;
  std::string all;
  char chunk[65536];
  while (std::cin.read(chunk, sizeof chunk) || std::cin.gcount() > 0) {
    all.append(chunk, static_cast<std::size_t>(std::cin.gcount()));
    if (all.size() > kStdinBytesMax) {
      return base::fail(base::ErrorCode::kInvalidArgument,
                        "standard input exceeds " + std::to_string(kStdinBytesMax) + " bytes");
    }
  }
  return all;
}

}  // namespace conclave::cli
