// Foreign text in messages and tables: short, valid and without control characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace conclave::base {

/// Longer text is cut: a name in a file may have megabytes, a message is one line.
inline constexpr std::size_t kShownBytes = 96;

/// `text` as a message may show it: cut when long, control characters as '?', always valid UTF-8.
std::string printable(std::string_view text);

/// The same in quotation marks.
std::string shown(std::string_view text);

}  // namespace conclave::base
