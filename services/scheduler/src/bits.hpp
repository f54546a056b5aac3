// Sets of experts as sets: what ExpertBits, a message, does not do itself. Both sides must have the
// same shape (checked).
#pragma once

#include <cstdint>
#include <functional>

#include "conclave/wire/placement.hpp"

namespace conclave::scheduler {

wire::ExpertBits operator|(const wire::ExpertBits& a, const wire::ExpertBits& b);
wire::ExpertBits operator&(const wire::ExpertBits& a, const wire::ExpertBits& b);
/// What is in `a` and not in `b`.
wire::ExpertBits operator-(const wire::ExpertBits& a, const wire::ExpertBits& b);

bool is_empty(const wire::ExpertBits& bits);

/// In order of layer and index.
void for_each(const wire::ExpertBits& bits,
              const std::function<void(std::uint32_t layer, std::uint32_t index)>& body);

}  // namespace conclave::scheduler
