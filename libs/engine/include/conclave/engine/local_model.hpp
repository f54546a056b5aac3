// A whole model in this process: the file, its tokenizer, backbone and experts, and the threads
// that compute. What `conclave generate` and the tests run; services load the same parts one by
// one.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/base/thread_pool.hpp"
#include "conclave/engine/forward.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/model/local_experts.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::engine {

struct LoadOptions {
  unsigned threads = 0;      // 0: one for each processor this process may use
  std::string isa;           // "scalar", "avx2", "avx512"; empty: the best there is
  model::Progress progress;  // may be empty; counts layers and experts together
};

/// Threads for `LoadOptions::threads` = 0: the size of the process's CPU set.
unsigned available_threads();

class LocalModel {
 public:
  /// Errors of gguf::File::open, read_config, Tokenizer::from_metadata and the loaders.
  static base::Result<std::unique_ptr<LocalModel>> load(const std::filesystem::path& path,
                                                        const LoadOptions& options);

  [[nodiscard]] const gguf::File& file() const { return file_; }
  [[nodiscard]] const model::ModelConfig& config() const { return backbone_->config(); }
  [[nodiscard]] const tokenizer::Tokenizer& tokenizer() const { return tokenizer_; }
  [[nodiscard]] const kernels::KernelTable& kernels() const { return compute_.kernels; }
  [[nodiscard]] model::Backbone& backbone() { return *backbone_; }
  [[nodiscard]] model::ExpertBackend& experts() { return *experts_; }

 private:
  LocalModel(gguf::File file, tokenizer::Tokenizer tokenizer, const kernels::KernelTable& kernels,
             unsigned threads);

  gguf::File file_;
  tokenizer::Tokenizer tokenizer_;
  base::ThreadPool pool_;
  kernels::Compute compute_;
  std::unique_ptr<model::Backbone> backbone_;
  std::unique_ptr<model::LocalExperts> experts_;
};

}  // namespace conclave::engine
