// Which versions of which models exist, what they are made of, and which name means which. The
// conversation about it is wire/registry.hpp; this is what stands behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/catalog/records.hpp"
#include "conclave/catalog/scan.hpp"
#include "conclave/wire/registry.hpp"

namespace conclave::catalog {

/// A version is immutable: its number means the same bytes for ever. Only where those bytes lie
/// (its URI) and which aliases point at it may change. What a call acknowledged is on disk.
///
/// One thread at a time; calls may wait for a disk. Every method can also fail with kUnavailable
/// (the store cannot be reached or written, with its reason; later may work) and kCorruptData.
class VersionCatalog {
 public:
  virtual ~VersionCatalog() = default;

  /// Records a scanned file as the next version of its name, or finds the version that has the
  /// same bytes already and notes the new URI. Then points the aliases at it. All of it or nothing.
  /// kInvalidArgument: a name that is none; kOverloaded: kAliasesMax is reached.
  virtual base::Result<wire::ModelRecord> add(const ModelScan& scan, const std::string& uri,
                                              std::span<const std::string> aliases,
                                              std::int64_t now_unix_ms) = 0;

  /// What a reference means now. kInvalidArgument: none of the three forms; kNotFound.
  virtual base::Result<wire::ModelRecord> resolve(std::string_view reference) = 0;

  /// By name and falling version. kInvalidArgument: `after` is no "name:version" (it need not
  /// exist), or a limit of 0 or above wire::kListMax.
  virtual base::Result<wire::ModelList> list(const wire::ListModels& page) = 0;

  /// Moves or makes an alias, in one step. kNotFound: no such version; otherwise as add().
  virtual base::Result<wire::ModelRecord> set_alias(const wire::SetAlias& alias) = 0;

  /// kNotFound: no such version.
  virtual base::Result<wire::ModelDigests> digests(const wire::DigestsRequest& request) = 0;
};

}  // namespace conclave::catalog
