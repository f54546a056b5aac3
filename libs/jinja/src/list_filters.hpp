// Filters that go through the elements of a list.
#pragma once

#include <string_view>

#include "builtins.hpp"

namespace conclave::jinja {

/// nullptr if `name` is not one of them.
FilterFunction find_list_filter(std::string_view name);

}  // namespace conclave::jinja
