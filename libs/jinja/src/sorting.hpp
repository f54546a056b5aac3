// The order of values, for sort and dictsort.
#pragma once

#include <optional>
#include <string>

#include "budget.hpp"
#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

struct SortOrder {
  bool reverse = false;
  bool case_sensitive = false;
  std::optional<std::string> attribute;  // a path; absent: the values themselves
};

/// Stable, also in reverse. Numbers and booleans compare with each other, strings with strings, and
/// several none or undefined are equal; any other pair cannot be compared: kFailedPrecondition.
base::Result<Array> sorted(const Array& items, const SortOrder& order, Budget& budget);

}  // namespace conclave::jinja
