// What may stand in the fields of records: checked before a database sees them, so that both of
// ours refuse the same, with the name of the field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"
#include "conclave/catalog/records.hpp"

namespace conclave::catalog {

/// Valid UTF-8 without NUL characters, at most `bytes_max`; kInvalidArgument names `what`.
base::Status check_text(std::string_view what, std::string_view text, std::size_t bytes_max);

base::Status check_tags(const std::map<std::string, std::string>& tags);
base::Status check_notes(const VersionNotes& notes);
/// But for the references, which must resolve.
base::Status check_deployment(const Deployment& deployment);
base::Status check_change(const Change& change);
base::Status check_usage(const UsageRow& row);
/// 1 to wire::kListMax.
base::Status check_limit(std::uint32_t limit);

/// The error for which is_conflict() is true.
base::Error conflict(std::string_view what, std::string_view is, std::string_view expected);

/// JSON in columns: written by us, so that what does not parse is damage (kCorruptData).
std::string tags_text(const std::map<std::string, std::string>& tags);
base::Result<std::map<std::string, std::string>> tags_of(std::string_view text);
std::string list_text(const std::vector<std::string>& list);
base::Result<std::vector<std::string>> list_of(std::string_view text);

}  // namespace conclave::catalog
