// A model without its experts, as a router loads it: the file, its tokenizer, and everything that
// every token needs.
#pragma once

#include <filesystem>
#include <memory>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::engine {

class BackboneModel {
 public:
  /// Errors of gguf::File::open, read_config, Tokenizer::from_metadata and Backbone::load. The
  /// threads of `compute` must outlive the model.
  static base::Result<std::unique_ptr<BackboneModel>> load(const std::filesystem::path& path,
                                                           const kernels::Compute& compute,
                                                           const model::Progress& progress = {});
  /// The same with a file that is open already.
  static base::Result<std::unique_ptr<BackboneModel>> load(gguf::File file,
                                                           const kernels::Compute& compute,
                                                           const model::Progress& progress = {});

  /// The whole file is mapped; pages of experts are not touched.
  [[nodiscard]] const gguf::File& file() const { return file_; }
  [[nodiscard]] const model::ModelConfig& config() const { return config_; }
  [[nodiscard]] const tokenizer::Tokenizer& tokenizer() const { return tokenizer_; }
  [[nodiscard]] model::Backbone& backbone() { return *backbone_; }
  [[nodiscard]] const model::Backbone& backbone() const { return *backbone_; }

 private:
  BackboneModel(gguf::File file, const model::ModelConfig& config, tokenizer::Tokenizer tokenizer);

  gguf::File file_;
  model::ModelConfig config_;
  tokenizer::Tokenizer tokenizer_;
  std::unique_ptr<model::Backbone> backbone_;
};

}  // namespace conclave::engine
