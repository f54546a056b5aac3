// Every message of Conclave as an owned value, and its bytes. Decoding is complete: nothing lazy
// leaves this library, and bytes that contradict the schema or limits.hpp are kCorruptData.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/wire/admin.hpp"
#include "conclave/wire/envelope.hpp"
#include "conclave/wire/expert.hpp"
#include "conclave/wire/inference.hpp"
#include "conclave/wire/ledger.hpp"
#include "conclave/wire/placement.hpp"
#include "conclave/wire/registry.hpp"

namespace conclave::wire {

/// All bodies. The number of an alternative is the message's type on the wire: append only.
using Message =
    std::variant<std::monostate, Hello, ErrorBody,                                    // 0-2
                 Generate, Accepted, TokenEvents, CancelStream,                       // 3-6
                 TokenizeRequest, TokenizeReply, DetokenizeRequest, DetokenizeReply,  // 7-10
                 ExpertCall, ExpertReply,                                             // 11-12
                 NodeReport, ReportReply, Nudge, FleetRequest, Fleet,                 // 13-17
                 RegisterModel, ResolveModel, ListModels, ModelList, ModelRecord,     // 18-22
                 SetAlias, DigestsRequest, ModelDigests,                              // 23-25
                 AdminRequest, AdminReply,                                            // 26-27
                 KeyQuestion, KeyAnswer, UsageBatch, Recorded,                        // 28-31
                 LeaseRequest, LeaseReply, AuditEvent,                                // 32-34
                 DeploymentsRequest, DeploymentList, CatalogChanged,                  // 35-37
                 StateRequest, StateReply>;                                           // 38-39

inline constexpr std::size_t kMessageTypes = std::variant_size_v<Message>;

/// "generate", "expert_call", ..: for logs and metric labels; "none" for 0, "unknown" beyond.
std::string_view type_name(std::uint16_t type);

inline std::uint16_t type_of(const Message& message) {
  return static_cast<std::uint16_t>(message.index());
}

namespace detail {
template <class T, std::size_t I = 0>
constexpr std::uint16_t index_of() {
  if constexpr (std::is_same_v<T, std::variant_alternative_t<I, Message>>) {
    return I;
  } else {
    return index_of<T, I + 1>();
  }
}
}  // namespace detail

/// The type number of one message struct.
template <class T>
inline constexpr std::uint16_t kTypeOf = detail::index_of<T>();

/// Whole words, so that the start may be aligned for the decoder.
using Bytes = std::vector<std::byte>;

Bytes encode(const Envelope& envelope);
/// Empty for std::monostate. Values beyond limits.hpp are a bug of the caller (checked). What
/// people read, the messages of errors and `reason`s, is the exception: it may quote anything, so
/// it is cut to kErrorBytesMax and what is not UTF-8 in it is replaced.
Bytes encode(const Message& message);
/// The same for a message whose values come from outside. kInvalidArgument: beyond a limit, text
/// that is not UTF-8, a routing table or digests that contradict themselves.
base::Result<Bytes> try_encode(const Message& message);

/// Any alignment; never throws. kCorruptData: no envelope, an unknown kind; kUnimplemented: another
/// version. An unknown `type` passes: a relay need not know it.
base::Result<Envelope> decode_envelope(std::span<const std::byte> bytes);
/// kCorruptData: not this type or beyond a limit; kUnimplemented: an unknown type or enum value.
base::Result<Message> decode(std::uint16_t type, std::span<const std::byte> bytes);

}  // namespace conclave::wire
