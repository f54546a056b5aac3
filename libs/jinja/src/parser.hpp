// Tokens into the tree.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "ast.hpp"
#include "conclave/base/result.hpp"

namespace conclave::jinja {

/// Brackets, blocks and operators inside each other; each level costs some stack while parsing and
/// while rendering. Published templates stay below 20.
inline constexpr std::size_t kNestingMax = 80;

/// Depth of one expression's tree. Operators that follow each other without brackets (`a + b + c`)
/// nest to the left, so this also bounds the length of such a chain.
inline constexpr std::size_t kExpressionDepthMax = 200;

base::Result<std::shared_ptr<const Program>> parse_program(std::string_view source);

}  // namespace conclave::jinja
