#include "served_model.hpp"

#include <chrono>
#include <vector>

#include "conclave/artifacts/store.hpp"
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

base::Result<std::string> check_served(const std::string& model,
                                       const artifacts::Settings& artifacts,
                                       const engine::BatcherOptions& batch, std::uint32_t routers) {
  CONCLAVE_TRY(const artifacts::Location where, artifacts::Location::parse(absolute_model(model)));
  telemetry::Metrics metrics;
  artifacts::Store store(artifacts, [] { return std::chrono::system_clock::now(); }, metrics, {});
  CONCLAVE_TRY(const artifacts::OpenModel opened, store.open(where.text(), "", {}));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(opened.file));
  if (auto fits = check_fits(opened.file, config, batch, routers); !fits) {
    return base::fail(std::move(fits).error().within(where.shown()));
  }
  CONCLAVE_TRY(const std::string name, catalog::derive_name(config.name, where.file_name()));
  return name + "@" + std::string(registry::kCurrentAlias);
}

std::string absolute_model(const std::string& model) {
  return artifacts::has_scheme(model) ? model : std::filesystem::absolute(model).string();
}

}  // namespace conclave::cli
