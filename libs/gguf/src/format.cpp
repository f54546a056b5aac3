#include "format.hpp"

#include "conclave/base/utf8.hpp"
#include "limits.hpp"

namespace conclave::gguf {

std::string shown(std::string_view name) {
  std::string text = base::utf8::sanitize(name.substr(0, limits::kShownNameBytes));
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) c = '?';
  }
  return "'" + text + (name.size() > limits::kShownNameBytes ? "...'" : "'");
}

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
