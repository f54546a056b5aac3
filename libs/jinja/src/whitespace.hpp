// The three rewrites that happen before a template is split into tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::jinja {

/// Text and, for each of its bytes, where it stood in the source: errors name the place that the
/// author sees. `origin` has one element more, for the end.
struct PreparedSource {
  std::string text;
  std::vector<std::uint32_t> origin;
};

/// Drops the last newline, blanks from the line start to a block tag (lstrip_blocks), the newline
/// after a block tag (trim_blocks), and the generation markers that training tools put around
/// answers. Like the reference, all of it by pattern, without knowing strings from text.
PreparedSource prepare_source(std::string_view source);

}  // namespace conclave::jinja
