#include "conclave/wire/expert.hpp"

#include <charconv>

#include "conclave/wire/limits.hpp"

namespace conclave::wire {

namespace {

using base::ErrorCode;

constexpr std::size_t kPartAlignment = 64;  // a cache line
constexpr std::size_t kPairBytes = 2 * sizeof(std::uint32_t);
constexpr std::uint32_t kBlockQuants = 32;  // that share a scale

base::Status check_count(const char* what, std::uint32_t count, std::size_t limit) {
  if (count != 0 && count <= limit) return {};
  return base::fail(ErrorCode::kInvalidArgument, "expert call: " + std::to_string(count) + " " +
                                                     what + ", not 1 to " + std::to_string(limit));
}

// Puts a part of so many bytes behind what is there and returns where it starts.
std::size_t place(CallLayout& layout, std::size_t bytes) {
  const std::size_t at = (layout.bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
  layout.bytes = at + bytes;
  return at;
}

}  // namespace

base::Result<CallLayout> layout_of(const ExpertCall& call) {
  CONCLAVE_TRY_VOID(check_count("rows", call.rows, kCallRowsMax));
  CONCLAVE_TRY_VOID(check_count("pairs", call.pairs, kCallPairsMax));
  CONCLAVE_TRY_VOID(check_count("floats a row", call.hidden, kHiddenMax));
  if (call.forms < RowForms::kQuantized || call.forms > RowForms::kBoth) {
    return base::fail(ErrorCode::kInvalidArgument, "expert call: unknown form of rows");
  }
  const bool quantized = call.forms != RowForms::kFloats;
  const bool floats = call.forms != RowForms::kQuantized;
  if (quantized && call.hidden % kBlockQuants != 0) {
    return base::fail(
        ErrorCode::kInvalidArgument,
        "expert call: quantized rows of " + std::to_string(call.hidden) + ", not a multiple of 32");
  }
  // At most 2^16 * 2^16 * 9 and 2^20 * 2^16 * 4 bytes: no overflow.
  const std::size_t values = std::size_t{call.rows} * call.hidden;
  CallLayout layout;
  layout.pairs = place(layout, call.pairs * kPairBytes);
  if (quantized) {
    layout.quants = place(layout, values);
    layout.scales = place(layout, values / kBlockQuants * sizeof(float));
  }
  if (floats) layout.floats = place(layout, values * sizeof(float));
  layout.reply_bytes = std::size_t{call.pairs} * call.hidden * sizeof(float);
  if (layout.bytes > kPayloadBytesMax || layout.reply_bytes > kPayloadBytesMax) {
    return base::fail(ErrorCode::kInvalidArgument,
                      "expert call: " + std::to_string(layout.bytes) + " bytes out, " +
                          std::to_string(layout.reply_bytes) + " back, at most " +
                          std::to_string(kPayloadBytesMax) + " each");
  }
  return layout;
}

std::uint64_t model_key_of(const ModelVersion& model) {
  constexpr std::size_t kDigits = 2 * sizeof(std::uint64_t);
  if (model.sha256.size() < kDigits) return 0;
  const char* const end = model.sha256.data() + kDigits;
  std::uint64_t key = 0;
  const auto [stopped, error] = std::from_chars(model.sha256.data(), end, key, 16);
  return error == std::errc() && stopped == end ? key : 0;
}

}  // namespace conclave::wire
