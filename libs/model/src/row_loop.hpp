// Loops over the rows of a step whose work may be too little for several threads.
#pragma once

#include <cstddef>
#include <utility>

#include "conclave/base/aligned.hpp"
#include "conclave/base/thread_pool.hpp"

namespace conclave::model {

/// Numbers that one thread passes over in about as long as a pool takes to start and join a loop
/// (a few microseconds).
inline constexpr std::size_t kLoopNumbers = 16384;

/// body(row) for each row, on the pool only if rows * numbers (touched in a row) is worth it.
template <class Body>
void each_row(base::ThreadPool& pool, std::size_t rows, std::size_t numbers, Body&& body) {
  if (rows * numbers <= kLoopNumbers) {
    for (std::size_t row = 0; row < rows; ++row) body(row);
  } else {
    pool.for_shares(rows, [&](std::size_t row, unsigned) { body(row); });
  }
}

/// Room for n values in scratch that only grows: a smaller step between two large ones does not
/// have the large one's room filled with zeros again.
template <class T>
T* grow(base::AlignedVector<T>& room, std::size_t n) {
  if (room.size() < n) room.resize(n);
  return room.data();
}

}  // namespace conclave::model
