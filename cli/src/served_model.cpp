#include "served_model.hpp"

#include "conclave/catalog/reference.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"
#include "conclave/registry/registry_service.hpp"

namespace conclave::cli {

base::Result<std::string> served_reference(const std::filesystem::path& model) {
  CONCLAVE_TRY(const gguf::File file, gguf::File::open(model));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(const std::string name,
               catalog::derive_name(config.name, file.parts().front().path));
  return name + "@" + std::string(registry::kCurrentAlias);
}

}  // namespace conclave::cli
