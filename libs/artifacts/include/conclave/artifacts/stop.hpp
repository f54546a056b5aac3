// How a transfer that may take hours is ended early.
#pragma once

#include <functional>

namespace conclave::artifacts {

/// True ends what is going on with kCancelled. Asked several times a second, at least once, on a
/// thread that waits for bytes; must not block. Null: nobody ends it.
using Stop = std::function<bool()>;

}  // namespace conclave::artifacts
