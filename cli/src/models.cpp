// `conclave models ..`: what the registry keeps. Aliases and deployments: model_serving.cpp.
#include <filesystem>
#include <iostream>
#include <memory>
#include <utility>

#include "admin_operation.hpp"
#include "admin_options.hpp"
#include "commands.hpp"
#include "conclave/artifacts/location.hpp"
#include "conclave/base/text.hpp"
#include "conclave/catalog/reference.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"
#include "models.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace fs = std::filesystem;
namespace json = boost::json;

const std::vector<Column> kModelColumns{{"model", "/name"},
                                        {"newest", "/newest"},
                                        {"versions", "/versions"},
                                        {"aliases", "/aliases_text"},
                                        {"description", "/description"}};
const std::vector<Column> kVersionColumns{{"version", "/version"},
                                          {"state", "/state"},
                                          {"architecture", "/architecture"},
                                          {"blocks", "/block_types"},
                                          {"size", "/size_text"},
                                          {"aliases", "/aliases"},
                                          {"sha256", "/sha256_text"},
                                          {"description", "/description"}};
const std::vector<Column> kVersionRows{{"model", "/model"},
                                       {"version", "/version"},
                                       {"state", "/state"},
                                       {"aliases", "/aliases"},
                                       {"description", "/description"},
                                       {"architecture", "/architecture"},
                                       {"block types", "/block_types"},
                                       {"parameters", "/parameters"},
                                       {"context length", "/context_length"},
                                       {"layers", "/layers"},
                                       {"experts a layer", "/experts"},
                                       {"experts a token", "/experts_used"},
                                       {"size", "/size_text"},
                                       {"licence", "/licence"},
                                       {"source", "/source_uri"},
                                       {"parent", "/parent"},
                                       {"uris", "/uris"},
                                       {"sha256", "/sha256"},
                                       {"published", "/published_text"},
                                       {"archived", "/archived_text"}};
// The number of a version, from "name:3", "name@alias", or "name" with its newest.
struct Named {
  std::string name;
  std::string version;
};
Result<Named> version_of(const AdminClient& client, const std::string& text) {
  CONCLAVE_TRY(const catalog::Reference reference, catalog::parse_reference(text));
  if (reference.version != 0) return Named{reference.name, std::to_string(reference.version)};
  if (reference.alias.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                base::shown(text) + " names no version: write NAME:VERSION or NAME@ALIAS");
  }
  CONCLAVE_TRY(const AdminAnswer alias,
               client.get(admin_path({"models", reference.name, "aliases", reference.alias})));
  return Named{reference.name, cell(alias.body, "/version")};
}

// ---- register

struct Register : AdminOptions {
  std::string uri;
  std::string name;
  std::vector<std::string> aliases;
  bool draft = false;
  std::string description;
  std::string licence;
  std::string parent;
  std::string metadata;
};

// As the file calls itself, where it is here to be asked.
Result<std::string> name_of(const Register& options) {
  if (!options.name.empty()) return options.name;
  if (artifacts::has_scheme(options.uri)) {
    CONCLAVE_TRY(const artifacts::Location where, artifacts::Location::parse(options.uri));
    return catalog::derive_name("", where.file_name());
  }
  CONCLAVE_TRY(const gguf::File file, gguf::File::open(options.uri));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  return catalog::derive_name(config.name, file.parts().front().path);
}

Status register_model(const Register& options, const AdminClient& client) {
  CONCLAVE_TRY(const std::string name, name_of(options));
  json::object body{{"uri", artifacts::has_scheme(options.uri)
                                ? options.uri
                                : fs::absolute(options.uri).string()}};
  const auto add = [&body](const char* member, const std::string& value) {
    if (!value.empty()) body[member] = value;
  };
  if (options.draft) body["draft"] = true;
  if (!options.aliases.empty()) {
    body["aliases"] = json::array(options.aliases.begin(), options.aliases.end());
  }
  add("description", options.description);
  add("licence", options.licence);
  add("parent", options.parent);
  if (!options.metadata.empty()) {
    boost::system::error_code error;
    body["metadata"] = json::parse(options.metadata, error);
    if (error || !body["metadata"].is_object()) {
      return fail(ErrorCode::kInvalidArgument, "--metadata is no JSON object");
    }
  }
  CONCLAVE_TRY(const AdminAnswer done,
               run_operation(client,
                             {.method = "POST",
                              .path = admin_path({"models", name, "versions"}),
                              .query = options.changing(),
                              .body = std::move(body)},
                             "registering"));
  print_one(done, kVersionRows, options.format);
  return {};
}

void add_register(CLI::App& models, Action& action) {
  auto options = std::make_shared<Register>();
  CLI::App* command =
      models.add_subcommand("register", "Record a model file as a new version, with its sums");
  command->add_option("uri", options->uri, "A GGUF file, or file://, http(s):// or s3://")
      ->required();
  command->add_option("--name", options->name, "Of the model (default: as the file says)");
  command->add_option("--alias", options->aliases, "Point this alias at it; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--draft", options->draft, "Do not publish it yet");
  command->add_option("--description", options->description, "What it is");
  command->add_option("--licence", options->licence, "Default: what the file says");
  command->add_option("--parent", options->parent, "NAME:VERSION it was made of");
  command->add_option("--metadata", options->metadata, "More about it, as a JSON object");
  add_admin_options(*command, *options, true);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return register_model(*options, client); });
}

// ---- list and show

struct One : AdminOptions {
  std::string reference;
};

Status list(const One& options, const AdminClient& client) {
  bool stale = false;
  if (options.reference.empty()) {
    CONCLAVE_TRY(json::array models, client.list(admin_path({"models"}), kPage, kListMax, &stale));
    print_all(std::move(models), kModelColumns, options.format, stale);
    return {};
  }
  CONCLAVE_TRY(json::array versions,
               client.list(admin_path({"models", options.reference, "versions"}), kPage, kListMax,
                           &stale, "before"));
  print_all(std::move(versions), kVersionColumns, options.format, stale);
  return {};
}

Status show(const One& options, const AdminClient& client) {
  CONCLAVE_TRY(const catalog::Reference reference, catalog::parse_reference(options.reference));
  if (reference.version == 0 && reference.alias.empty()) {
    CONCLAVE_TRY(const AdminAnswer model, client.get(admin_path({"models", reference.name})));
    print_one(model, kModelColumns, options.format);
    return {};
  }
  CONCLAVE_TRY(const Named named, version_of(client, options.reference));
  CONCLAVE_TRY(const AdminAnswer version,
               client.get(admin_path({"models", named.name, "versions", named.version})));
  print_one(version, kVersionRows, options.format);
  return {};
}

// ---- publish, archive, verify, rm

Status change_state(const One& options, const AdminClient& client, const char* verb) {
  CONCLAVE_TRY(const Named named, version_of(client, options.reference));
  CONCLAVE_TRY(
      const AdminAnswer version,
      client.call({.method = "POST",
                   .path = admin_path({"models", named.name, "versions", named.version}, verb),
                   .query = options.changing(),
                   .body = {},
                   .if_match = ""}));
  print_one(version, kVersionRows, options.format);
  return {};
}

// What :verify found to differ, as records of a table; empty: nothing.
Result<json::array> damage_of(const json::value& result) {
  const json::object* found = result.if_object();
  if (found == nullptr || !found->contains("ok") || !found->at("ok").is_bool() ||
      !found->contains("bad_experts") || !found->at("bad_experts").is_array()) {
    return fail(ErrorCode::kCorruptData, "the server does not say what it found");
  }
  json::array parts;
  if (found->at("ok").get_bool()) return parts;
  if (cell(result, "/shape_ok") == "false") {
    parts.push_back(json::object{{"part", "the file: it is another model"}});
    return parts;
  }
  for (const json::value& bad : found->at("bad_experts").get_array()) {
    parts.push_back(json::object{
        {"part", "expert"}, {"layer", cell(bad, "/layer")}, {"expert", cell(bad, "/expert")}});
  }
  if (cell(result, "/backbone_ok") == "false") parts.push_back(json::object{{"part", "backbone"}});
  // Bytes that belong to no tensor.
  if (parts.empty()) parts.push_back(json::object{{"part", "the file, outside of its tensors"}});
  return parts;
}

Status verify(const One& options, const AdminClient& client) {
  CONCLAVE_TRY(const Named named, version_of(client, options.reference));
  CONCLAVE_TRY(const AdminAnswer done,
               run_operation(client,
                             {.method = "POST",
                              .path = admin_path({"models", named.name, "versions", named.version},
                                                 ":verify"),
                              .query = {},
                              .body = {},
                              .if_match = ""},
                             "verifying"));
  CONCLAVE_TRY(const json::array parts, damage_of(done.body));
  const std::string reference = named.name + ":" + named.version;
  if (options.format == OutputFormat::kJson) {
    print_json(done.body);
  } else if (parts.empty()) {
    std::cout << reference << ": all bytes are as they were recorded\n";
  } else {
    print_records(parts, {{"part", "/part"}, {"layer", "/layer"}, {"expert", "/expert"}},
                  options.format);
  }
  if (parts.empty()) return {};
  return fail(ErrorCode::kCorruptData,
              reference + " is not what was recorded: see the parts above");
}

Status remove(const One& options, const AdminClient& client) {
  CONCLAVE_TRY(const catalog::Reference reference, catalog::parse_reference(options.reference));
  if (!reference.alias.empty()) {
    return fail(ErrorCode::kInvalidArgument, "aliases are removed with `models alias --remove`");
  }
  std::string path = admin_path({"models", reference.name});
  if (reference.version != 0) {
    path = admin_path({"models", reference.name, "versions", std::to_string(reference.version)});
  }
  CONCLAVE_TRY_VOID(client.call(
      {.method = "DELETE", .path = path, .query = options.changing(), .body = {}, .if_match = ""}));
  if (options.format == OutputFormat::kJson) {
    print_json(json::object{{"removed", options.reference}, {"dry_run", options.dry_run}});
  } else {
    std::cout << options.reference << (options.dry_run ? " would be" : " is") << " removed\n";
  }
  return {};
}

CLI::App* add_one(CLI::App& models, Action& action, const char* name, const char* help,
                  bool changes, bool required,
                  Status (*run)(const One& options, const AdminClient& client)) {
  auto options = std::make_shared<One>();
  CLI::App* command = models.add_subcommand(name, help);
  command->add_option("model", options->reference, "NAME, NAME:VERSION or NAME@ALIAS")
      ->required(required);
  add_admin_options(*command, *options, changes);
  on_admin(*command, action, *options,
           [options, run](const AdminClient& client) { return run(*options, client); });
  return command;
}

}  // namespace

void add_models(CLI::App& app, Action& action) {
  CLI::App* models = app.add_subcommand("models", "Models of the registry, and what is deployed");
  models->require_subcommand(1);
  add_register(*models, action);
  add_one(*models, action, "list", "All models, or the versions of one", false, false, list);
  add_one(*models, action, "show", "One model or version", false, true, show);
  add_one(*models, action, "publish", "Publish a draft: it is frozen from then on", true, true,
          [](const One& options, const AdminClient& client) {
            return change_state(options, client, ":publish");
          });
  add_one(*models, action, "archive", "Keep a version, but let nothing new point at it", true, true,
          [](const One& options, const AdminClient& client) {
            return change_state(options, client, ":archive");
          });
  add_models_alias(*models, action);
  add_models_deploy(*models, action);
  add_models_split(*models, action);
  add_one(*models, action, "verify", "Read a version's bytes again and compare all sums", false,
          true, verify);
  add_one(*models, action, "rm", "Remove a model, or a draft or archived version", true, true,
          remove);
}

}  // namespace conclave::cli
