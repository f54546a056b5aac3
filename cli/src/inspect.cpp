// `conclave inspect`: what is in a model file, without loading it.
#include <algorithm>
#include <iostream>
#include <map>

#include "commands.hpp"
#include "conclave/base/text.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/experts.hpp"
#include "output.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;

struct TypeUse {
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
};

struct Summary {
  std::uint64_t file_bytes = 0;
  std::uint64_t parameters = 0;
  std::uint64_t tensor_bytes = 0;
  std::uint64_t expert_bytes = 0;      // of all routed experts
  std::uint64_t expert_bytes_min = 0;  // of one
  std::uint64_t expert_bytes_max = 0;
  std::map<std::string, TypeUse> types;
};

base::Result<std::uint64_t> bytes_of_expert(const gguf::File& file,
                                            const model::ModelConfig& config, model::ExpertId id) {
  CONCLAVE_TRY(const auto ranges, model::expert_ranges(file, config, id));
  std::uint64_t bytes = 0;
  for (const gguf::ByteRange& range : ranges) bytes += range.size;
  return bytes;
}

base::Result<Summary> summarize(const gguf::File& file, const model::ModelConfig& config) {
  Summary sum;
  for (const auto& part : file.parts()) sum.file_bytes += part.size;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    TypeUse& use = sum.types[std::string(gguf::traits(tensor.type).name)];
    ++use.tensors;
    use.parameters += tensor.elements();
    use.bytes += tensor.range.size;
    sum.parameters += tensor.elements();
    sum.tensor_bytes += tensor.range.size;
  }
  sum.expert_bytes_min = ~std::uint64_t{0};
  for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
    for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
      CONCLAVE_TRY(const auto bytes, bytes_of_expert(file, config, {layer, index}));
      sum.expert_bytes += bytes;
      sum.expert_bytes_min = std::min(sum.expert_bytes_min, bytes);
      sum.expert_bytes_max = std::max(sum.expert_bytes_max, bytes);
    }
  }
  if (sum.expert_bytes == 0) sum.expert_bytes_min = 0;
  return sum;
}

std::string_view gate_name(model::GateFunction function) {
  switch (function) {
    case model::GateFunction::kSoftmax:
      return "softmax";
    case model::GateFunction::kSigmoid:
      return "sigmoid";
    case model::GateFunction::kSoftmaxOfSelected:
      return "softmax-of-selected";
  }
  return "";
}

json::object to_json(const std::string& path, const gguf::File& file,
                     const model::ModelConfig& config, const Summary& sum) {
  json::object types;
  for (const auto& [name, use] : sum.types) {
    types[name] = json::object{
        {"tensors", use.tensors}, {"parameters", use.parameters}, {"bytes", use.bytes}};
  }
  const model::GateConfig& gate = config.gate;
  const auto text = [&](std::string_view key) {
    return json::string(
        base::utf8::sanitize(file.metadata().get_or<std::string>(key, "").value_or("")));
  };
  return {
      {"file", path},
      {"parts", file.parts().size()},
      {"gguf_version", file.version()},
      {"architecture", json::string(config.architecture->name)},
      {"name", base::utf8::sanitize(config.name)},
      {"parameters", sum.parameters},
      {"file_bytes", sum.file_bytes},
      {"layers", config.layers},
      {"dense_layers", config.dense_layers},
      {"context_length", config.context_length},
      {"hidden", config.hidden},
      {"vocab", config.vocab},
      {"heads", config.attention.heads},
      {"kv_heads", config.attention.kv_heads},
      {"backbone_bytes", sum.tensor_bytes - sum.expert_bytes},
      {"experts", json::object{{"per_layer", gate.experts},
                               {"used", gate.used},
                               {"groups", gate.groups},
                               {"gate", json::string(gate_name(gate.function))},
                               {"ffn", config.expert_ffn},
                               {"shared_ffn", config.shared_ffn},
                               {"bytes_each_min", sum.expert_bytes_min},
                               {"bytes_each_max", sum.expert_bytes_max},
                               {"bytes", sum.expert_bytes}}},
      {"block_types", std::move(types)},
      {"tokenizer",
       json::object{{"model", text("tokenizer.ggml.model")}, {"pre", text("tokenizer.ggml.pre")}}},
  };
}

void print_table(const std::string& path, const gguf::File& file, const model::ModelConfig& config,
                 const Summary& sum) {
  const model::GateConfig& gate = config.gate;
  const std::string each =
      sum.expert_bytes_min == sum.expert_bytes_max
          ? human_bytes(sum.expert_bytes_max)
          : human_bytes(sum.expert_bytes_min) + " to " + human_bytes(sum.expert_bytes_max);
  const auto number = [](auto value) { return std::to_string(value); };
  Table table({"property", "value"});
  table.add({"file", path + " (" + human_bytes(sum.file_bytes) + ", " +
                         number(file.parts().size()) + " part" +
                         (file.parts().size() == 1 ? ")" : "s)")});
  table.add({"name", base::printable(config.name)});
  table.add({"architecture", std::string(config.architecture->name)});
  table.add({"parameters", fixed(static_cast<double>(sum.parameters) / 1e6, 2) + " M"});
  table.add({"layers", number(config.layers) + " (" + number(config.dense_layers) + " dense)"});
  table.add({"hidden", number(config.hidden)});
  table.add({"attention", number(config.attention.heads) + " heads, " +
                              number(config.attention.kv_heads) + " key-value"});
  table.add({"context", number(config.context_length) + " tokens"});
  table.add({"vocabulary", number(config.vocab) + " tokens"});
  table.add({"experts a layer", number(gate.experts) + ", " + number(gate.used) + " used, gate " +
                                    std::string(gate_name(gate.function))});
  table.add({"bytes per expert", each});
  table.add({"all experts", human_bytes(sum.expert_bytes)});
  table.add({"backbone", human_bytes(sum.tensor_bytes - sum.expert_bytes)});
  std::cout << table.to_string() << "\n";

  Table types({"block type", "tensors", "parameters", "bytes"});
  for (const auto& [name, use] : sum.types) {
    types.add({name, number(use.tensors), number(use.parameters), number(use.bytes)});
  }
  std::cout << types.to_string();
}

base::Status inspect(const std::string& path, OutputFormat format) {
  CONCLAVE_TRY(const gguf::File file, gguf::File::open(path));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(const Summary sum, summarize(file, config));
  if (format == OutputFormat::kJson) {
    print_json(to_json(path, file, config, sum));
  } else {
    print_table(path, file, config, sum);
  }
  return {};
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  struct Options {
    std::string path;
    OutputFormat format = OutputFormat::kTable;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a model file");
  command->add_option("file", options->path, "The GGUF file")->required();
  add_output_option(*command, options->format);
  command->callback([options, &action] {
    action = [options] { return inspect(options->path, options->format); };
  });
}

}  // namespace conclave::cli
