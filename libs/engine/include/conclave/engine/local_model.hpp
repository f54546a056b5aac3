// A whole model in this process: what `conclave generate` and the tests run. Services load the same
// parts one by one: ComputeHost, BackboneModel in routers, model::ExpertSet in workers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/engine/backbone_model.hpp"
#include "conclave/engine/compute_host.hpp"
#include "conclave/model/local_experts.hpp"

namespace conclave::engine {

struct LoadOptions {
  unsigned threads = 0;                                // as ComputeHost::create
  std::string isa;                                     // as ComputeHost::create
  std::uint64_t memory_available = ~std::uint64_t{0};  // bytes; models beyond it are refused
  model::Progress progress;  // may be empty; counts layers and experts together
};

class LocalModel {
 public:
  /// Errors of ComputeHost::create, BackboneModel::load and LocalExperts::load; kFailedPrecondition
  /// of check_memory().
  static base::Result<std::unique_ptr<LocalModel>> load(const std::filesystem::path& path,
                                                        const LoadOptions& options);

  [[nodiscard]] const gguf::File& file() const { return model_->file(); }
  [[nodiscard]] const model::ModelConfig& config() const { return model_->config(); }
  [[nodiscard]] const tokenizer::Tokenizer& tokenizer() const { return model_->tokenizer(); }
  [[nodiscard]] const kernels::Compute& compute() const { return host_->compute(); }
  [[nodiscard]] model::Backbone& backbone() { return model_->backbone(); }
  [[nodiscard]] model::ExpertBackend& experts() { return *experts_; }

 private:
  LocalModel() = default;

  std::unique_ptr<ComputeHost> host_;
  std::unique_ptr<BackboneModel> model_;
  std::unique_ptr<model::LocalExperts> experts_;
};

}  // namespace conclave::engine
