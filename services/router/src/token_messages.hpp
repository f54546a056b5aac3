// Packs what a step gave to the streams of one gateway into as few messages as their size allows:
// the prompt of a long context echoed with its alternatives is far more than one message may hold.
#pragma once

#include <cstddef>
#include <vector>

#include "conclave/wire/inference.hpp"

namespace conclave::router {

/// Estimated bytes of one message: far below wire::kMessageBytesMax, and small enough that other
/// traffic of the link does not wait for it.
inline constexpr std::size_t kTokenMessageBytes = std::size_t{1} << 20;

/// One link's. The order of a stream's events stays what it is.
class TokenMessages {
 public:
  explicit TokenMessages(std::size_t message_bytes = kTokenMessageBytes)
      : message_bytes_(message_bytes) {}

  void add(wire::StreamEvents events);

  /// None of them empty, each at most one event larger than the bound.
  [[nodiscard]] std::vector<wire::TokenEvents> take();

 private:
  wire::StreamEvents& room_for(std::uint64_t stream, std::size_t bytes);

  std::size_t message_bytes_;
  std::size_t bytes_ = 0;  // of the last message
  std::vector<wire::TokenEvents> messages_;
};

}  // namespace conclave::router
