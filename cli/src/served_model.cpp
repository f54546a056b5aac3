#include "served_model.hpp"

#include <vector>

#include "conclave/catalog/reference.hpp"
#include "conclave/engine/memory_needs.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"
#include "conclave/registry/registry_service.hpp"
#include "model_options.hpp"

namespace conclave::cli {
namespace {

base::Status check_fits(const gguf::File& file, const model::ModelConfig& config,
                        const engine::BatcherOptions& batch, std::uint32_t routers) {
  CONCLAVE_TRY(engine::MemoryNeed experts, engine::experts_need(file, config));
  CONCLAVE_TRY(const engine::MemoryNeed backbone, engine::backbone_need(file, config));
  std::vector<engine::MemoryNeed> needs{std::move(experts)};
  for (engine::MemoryNeed need :
       {backbone, engine::kv_need(config, batch), engine::step_need(config, batch)}) {
    need.bytes *= routers;
    if (routers > 1) need.what += " of each of " + std::to_string(routers) + " routers";
    needs.push_back(std::move(need));
  }
  return engine::check_memory(needs, available_memory(),
                              "lower kv-tokens-max, or take a kv-type of fewer bits");
}

}  // namespace

base::Result<std::string> check_served(const std::filesystem::path& model,
                                       const engine::BatcherOptions& batch, std::uint32_t routers) {
  CONCLAVE_TRY(const gguf::File file, gguf::File::open(model));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  if (auto fits = check_fits(file, config, batch, routers); !fits) {
    return base::fail(std::move(fits).error().within(model.string()));
  }
  CONCLAVE_TRY(const std::string name,
               catalog::derive_name(config.name, file.parts().front().path));
  return name + "@" + std::string(registry::kCurrentAlias);
}

}  // namespace conclave::cli
