#include "format.hpp"

#include "limits.hpp"

namespace conclave::gguf {

base::Result<std::uint32_t> alignment_of(const Metadata& metadata) {
  CONCLAVE_TRY(const auto alignment,
               metadata.get_or<std::uint32_t>(kAlignmentKey, limits::kAlignmentDefault));
  if (!std::has_single_bit(alignment) || alignment < limits::kAlignmentMin ||
      alignment > limits::kAlignmentMax) {
    return base::fail(base::ErrorCode::kCorruptData,
                      std::string(kAlignmentKey) + " is " + std::to_string(alignment) +
                          ", expected a power of two from " +
                          std::to_string(limits::kAlignmentMin) + " to " +
                          std::to_string(limits::kAlignmentMax));
  }
  return alignment;
}

}  // namespace conclave::gguf
