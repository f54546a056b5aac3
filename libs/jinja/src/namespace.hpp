// The mutable value. It can contain itself, so whoever makes one clears it in the end.
#pragma once

#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

struct Namespace {
  Object entries;
};

}  // namespace conclave::jinja
