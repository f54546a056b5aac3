// What the machine could do at most, now: on a virtual machine memory may be half as fast an hour
// later, so a share of a limit is only worth something beside a limit of the same minute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "conclave/base/result.hpp"
#include "conclave/base/thread_pool.hpp"
#include "conclave/kernels/isa.hpp"

namespace conclave::cli {

struct MachineLimits {
  double memory_bytes_per_s = 0.0;  // reading, from memory, all threads together
  double int8_ops_per_s = 0.0;      // a multiply and an add of 8-bit values are two
};

/// Keeps the room that it reads and the threads that read it. One user at a time.
class LimitsProbe {
 public:
  /// `isa`: the instructions whose peak is wanted; supported by this machine. kOverloaded: there is
  /// no memory for a buffer larger than the caches.
  static base::Result<LimitsProbe> create(unsigned threads, kernels::Isa isa);

  /// Some tens of milliseconds with threads that have nothing else to do.
  MachineLimits measure();

  [[nodiscard]] unsigned threads() const { return pool_->threads(); }

 private:
  struct Unmap {
    std::size_t bytes = 0;
    void operator()(std::uint64_t* words) const;
  };
  using Room = std::unique_ptr<std::uint64_t[], Unmap>;

  LimitsProbe(unsigned threads, kernels::Isa isa, Room room);

  [[nodiscard]] std::size_t pieces() const;
  [[nodiscard]] double read_once(bool in_streams);
  [[nodiscard]] double multiply_once();

  kernels::Isa isa_;
  std::unique_ptr<base::ThreadPool> pool_;
  Room room_;
};

}  // namespace conclave::cli
