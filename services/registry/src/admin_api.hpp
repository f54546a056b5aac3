// What /admin/v1 means at the registry: each path turns a request into calls of the catalogue and
// their records into JSON. Knows no actor and no socket.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "conclave/admin/routes.hpp"
#include "conclave/catalog/catalog.hpp"
#include "job_thread.hpp"
#include "operations.hpp"
#include "registrar.hpp"

namespace conclave::registry {

/// What is borrowed must outlive the API, and what it gave to the registrar and the jobs.
struct AdminParts {
  catalog::Catalog& catalog;
  Registrar& registrar;
  JobThread& jobs;
  Operations& operations;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
  std::string version;  // of the program, for the document
};

/// One thread at a time; calls wait for the database.
class AdminApi {
 public:
  explicit AdminApi(AdminParts parts);

  /// As admin::Routes::serve; 412: If-Match, or an `if_version`, did not hold.
  [[nodiscard]] wire::AdminReply serve(const wire::AdminRequest& request) const {
    return routes_.serve(request);
  }

 private:
  using Call = admin::Call;
  using Reply = base::Result<wire::AdminReply>;

  void add_models();
  void add_versions();
  void add_aliases();
  void add_deployments();
  void add_access();
  void add_usage();
  void add_audit();
  void add_operations();
  void add_document();

  [[nodiscard]] Reply create_version(const Call& call) const;
  [[nodiscard]] Reply verify_version(const Call& call) const;
  [[nodiscard]] Reply create_key(const Call& call) const;
  [[nodiscard]] Reply usage(const Call& call) const;
  [[nodiscard]] Reply audit(const Call& call) const;
  [[nodiscard]] Reply verify_audit(const Call& call) const;

  /// Who asks, on which condition, and whether only to see.
  [[nodiscard]] base::Result<catalog::Change> change(const Call& call) const;
  [[nodiscard]] std::int64_t now_unix_ms() const;
  /// Begins one, and `start`s its work unless the same is under way already; 202.
  [[nodiscard]] Reply begin(std::string what, std::string subject, std::string request,
                            const std::function<base::Status(const std::string& id)>& start) const;

  AdminParts parts_;
  admin::Routes routes_;
};

}  // namespace conclave::registry
