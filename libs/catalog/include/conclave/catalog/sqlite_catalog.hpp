// The catalog in one SQLite file: for one machine, and for a registry that needs no PostgreSQL.
#pragma once

#include <filesystem>
#include <memory>

#include "conclave/catalog/version_catalog.hpp"

namespace conclave::catalog {

/// One connection, which also writes; the file is in WAL mode, so that other processes may read and
/// write it at the same time (they wait for each other, kLockWaitMs at most).
class SqliteCatalog final : public VersionCatalog {
 public:
  /// How long a call waits for another process's write. Writes take milliseconds; one that holds
  /// the lock for seconds is stuck.
  static constexpr int kLockWaitMs = 5000;

  /// Opens or makes the database; ":memory:" makes one that is gone with the object. Brings an
  /// older schema up to date. kFailedPrecondition: a newer schema than this program knows, or a
  /// database of something else; kCorruptData: no database, or a damaged one; kUnavailable: the
  /// directory does not exist or cannot be written.
  static base::Result<std::unique_ptr<SqliteCatalog>> open(const std::filesystem::path& path);

  ~SqliteCatalog() override;
  SqliteCatalog(const SqliteCatalog&) = delete;
  SqliteCatalog& operator=(const SqliteCatalog&) = delete;

  base::Result<wire::ModelRecord> add(const ModelScan& scan, const std::string& uri,
                                      std::span<const std::string> aliases,
                                      std::int64_t now_unix_ms) override;
  base::Result<wire::ModelRecord> resolve(std::string_view reference) override;
  base::Result<wire::ModelList> list(const wire::ListModels& page) override;
  base::Result<wire::ModelRecord> set_alias(const wire::SetAlias& alias) override;
  base::Result<wire::ModelDigests> digests(const wire::DigestsRequest& request) override;

 private:
  class Impl;
  explicit SqliteCatalog(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::catalog
