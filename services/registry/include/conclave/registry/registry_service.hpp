// The registry service: which versions of which models exist, what they are made of, and which name
// means which. Reads of the catalogue answer at once; registering a file, which reads all of it,
// happens beside them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/app/service.hpp"
#include "conclave/artifacts/settings.hpp"
#include "conclave/base/result.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/fleet/settings.hpp"

namespace conclave::registry {

/// Points at the version that `registry.models` registered last under its name.
inline constexpr std::string_view kCurrentAlias = "current";

/// Section `registry`.
struct RegistrySettings {
  std::string listen = "tcp://127.0.0.1:7601";
  std::string database = "registry.db";
  std::chrono::milliseconds database_wait{30'000};
  std::string sums;
  bool verify = false;
  std::string admin_key_file;
  std::vector<std::string> models;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("listen", listen, "Address for the other services");
    v("database", database,
      "postgresql://USER@HOST/NAME, or an SQLite file; :memory: forgets all at the end");
    v("database-wait-ms", database_wait, std::chrono::milliseconds{0},
      std::chrono::milliseconds{3'600'000}, "Longest wait for PostgreSQL at the start");
    v("sums", sums,
      "Directory of the sums of files read before (default: beside the database, if it is a file)");
    v("verify", verify, "Read files again to sum them, even if they have not changed");
    v("admin-key-file", admin_key_file,
      "File with a secret (16 to 256 characters) that is made an administrator's API key");
    v("models", models,
      "GGUF files, or http(s):// or s3:// of some, to register at the start, in order; their alias "
      "`current` points at them");
  }
};

class RegistryService {
 public:
  static constexpr std::string_view kName = "registry";
  static constexpr std::string_view kDescription = "Keeps models, versions, aliases and checksums";

  struct Settings {
    RegistrySettings registry;
    artifacts::Settings artifacts;
    fleet::FabricSettings fabric;

    template <class Visitor>
    void sections(Visitor&& v) {
      v("registry", registry);
      v("artifacts", artifacts);
      v("fabric", fabric);
    }
  };

  /// What the services of one process lend each other; null: the service makes its own.
  struct Lent {
    fleet::Process* process = nullptr;
  };

  static base::Result<std::unique_ptr<RegistryService>> create(const Settings& settings,
                                                               app::ServiceContext& context) {
    return create(settings, context, {});
  }
  static base::Result<std::unique_ptr<RegistryService>> create(const Settings& settings,
                                                               app::ServiceContext& context,
                                                               const Lent& lent);
  ~RegistryService();

  /// Opens the database and listens; kInvalidArgument or kUnavailable name what is wrong. The files
  /// of `registry.models` are read afterwards; if one is no model, the process ends.
  base::Status start();
  /// Ok once the files of `registry.models` are registered, or why not.
  [[nodiscard]] base::Status ready() const;
  void drain(std::chrono::steady_clock::time_point deadline);
  void stop();

  /// Where it listens, with the real port; empty before start().
  [[nodiscard]] std::string address() const;

 private:
  class Impl;
  explicit RegistryService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::registry
