// How audit records are chained.
#pragma once

#include <cstddef>
#include <span>

#include "conclave/base/result.hpp"
#include "conclave/catalog/records.hpp"

namespace conclave::catalog {

/// The sum of a record that follows one with the sum `previous` (zeros before the first): SHA-256
/// over `previous` and every field but `hash`, each with its length (8 bytes, little-endian) before
/// it, numbers as decimal text. Nothing that differs has the same bytes.
wire::Sha256 chained(const wire::Sha256& previous, const AuditRecord& record);

/// kCorruptData: not of 32 bytes.
base::Result<wire::Sha256> sum_of(std::span<const std::byte> bytes);

}  // namespace conclave::catalog
