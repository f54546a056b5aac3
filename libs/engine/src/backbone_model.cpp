#include "conclave/engine/backbone_model.hpp"

#include <utility>

namespace conclave::engine {

BackboneModel::BackboneModel(gguf::File file, const model::ModelConfig& config,
                             tokenizer::Tokenizer tokenizer)
    : file_(std::move(file)), config_(config), tokenizer_(std::move(tokenizer)) {}

base::Result<std::unique_ptr<BackboneModel>> BackboneModel::load(const std::filesystem::path& path,
                                                                 const kernels::Compute& compute,
                                                                 const model::Progress& progress) {
  CONCLAVE_TRY(gguf::File file, gguf::File::open(path));
  return load(std::move(file), compute, progress);
}

base::Result<std::unique_ptr<BackboneModel>> BackboneModel::load(gguf::File file,
                                                                 const kernels::Compute& compute,
                                                                 const model::Progress& progress) {
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(tokenizer::Tokenizer tokenizer,
               tokenizer::Tokenizer::from_metadata(file.metadata()));
  std::unique_ptr<BackboneModel> model(
      new BackboneModel(std::move(file), config, std::move(tokenizer)));
  CONCLAVE_TRY(model->backbone_, model::Backbone::load(model->file_, config, compute, progress));
  return model;
}

}  // namespace conclave::engine
