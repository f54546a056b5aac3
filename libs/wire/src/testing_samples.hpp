// One message of every type with every field set, for tests and the golden bytes. They never
// change: the files in schemas/golden hold exactly these. For an appended field see there.
#pragma once

#include <vector>

#include "conclave/wire/message.hpp"

namespace conclave::wire::testing_samples {

Envelope envelope();

/// In the order of the types, from 1.
std::vector<Message> messages();

/// The same, default-constructed.
std::vector<Message> empty_messages();

}  // namespace conclave::wire::testing_samples
