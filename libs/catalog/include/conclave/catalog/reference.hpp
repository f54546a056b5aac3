// How people name models: a name, and what of it is meant.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::catalog {

/// Of names and aliases. A DNS label has 63 characters; one more is what a pattern of
/// [a-z0-9][a-z0-9._-]{0,63} says.
inline constexpr std::size_t kNameCharsMax = 64;

/// The alias that a bare name means, where it exists.
inline constexpr std::string_view kDefaultAlias = "production";

/// [a-z0-9][a-z0-9._-]{0,63}: what a model or an alias may be called. Neither '@' nor ':' is in it.
bool is_name(std::string_view text);

/// Ok, or kInvalidArgument with the rule: "the model name 'A b' is not [a-z0-9]..".
base::Status check_name(std::string_view what, std::string_view text);

/// "name", "name@alias" or "name:version".
struct Reference {
  std::string name;
  std::string alias;          // empty: none given
  std::uint32_t version = 0;  // 0: none given

  friend bool operator==(const Reference&, const Reference&) = default;
};

/// The only parser of references. kInvalidArgument for anything else; the message has the rule.
base::Result<Reference> parse_reference(std::string_view text);

/// "name:version".
std::string format_reference(std::string_view name, std::uint32_t version);

/// A name for a model that was given none: its `general.name`, or else the file's name without
/// ".gguf" and the number of a part, with what a name may not have as '-'. kInvalidArgument if
/// nothing is left of either.
base::Result<std::string> derive_name(std::string_view general_name,
                                      const std::filesystem::path& file);

}  // namespace conclave::catalog
