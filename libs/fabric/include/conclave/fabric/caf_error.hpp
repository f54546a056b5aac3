// base::Error as caf::error and back: category "conclave", the code in the code, the text in the
// context. Actors answer with the first and read the second, near and far alike.
#pragma once

#include <caf/atom.hpp>
#include <caf/error.hpp>

#include "conclave/base/error.hpp"

namespace conclave::fabric {

inline constexpr caf::atom_value kErrorCategory = caf::atom("conclave");

caf::error to_caf(base::Error error);

/// Errors of CAF itself become what a caller can act on: a request's own timeout kDeadlineExceeded,
/// a receiver that is gone kUnavailable, a message that the receiver does not know kUnimplemented,
/// everything else kInternal. `error` must hold one (none: kInternal).
base::Error from_caf(const caf::error& error);

}  // namespace conclave::fabric
