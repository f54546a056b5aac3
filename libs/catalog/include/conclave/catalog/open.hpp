// Which store an address means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"

namespace conclave::catalog {

struct CatalogOptions {
  /// Connections to PostgreSQL at once; a registry's calls are short, and a server has 100 for all.
  std::size_t connections_max = 4;
  /// How long a call waits for one of them, before kOverloaded.
  std::int64_t connection_wait_ms = 2000;
  /// What the server gives one statement, and one wait for a lock (SQLite: for another writer).
  std::int64_t statement_timeout_ms = 5000;
  /// How often one call is tried, after lost connections and serialisation failures, with waits
  /// that double from 10 ms.
  unsigned attempts_max = 6;
  /// Leases by the clock of the server; false: by the caller's, as SQLite does (tests).
  bool server_clock = true;
};

/// True for "postgres://.." and "postgresql://..".
bool is_postgres_url(std::string_view url);

/// The address as a log may show it: without a password.
std::string redacted(std::string_view url);

/// PostgreSQL for a URL of it (in its schema `conclave`, which is made), SQLite for a path or
/// ":memory:". Brings an older schema up to date, one process at a time. kFailedPrecondition: a
/// newer schema than this program knows, or a database of something else; kCorruptData: no
/// database, or a damaged one; kUnavailable: it cannot be reached or written; kInvalidArgument: no
/// such address.
base::Result<std::unique_ptr<Catalog>> open_catalog(const std::string& url,
                                                    const CatalogOptions& options = {});

}  // namespace conclave::catalog
