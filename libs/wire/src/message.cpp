#include "conclave/wire/message.hpp"

#include <array>
#include <string>
#include <utility>

#include "codecs.hpp"
#include "conclave/base/check.hpp"
#include "frame.hpp"

namespace conclave::wire {

using base::ErrorCode;

namespace {

constexpr std::array<std::string_view, kMessageTypes> kTypeNames = {
    "none",
    "hello",
    "error_body",
    "generate",
    "accepted",
    "token_events",
    "cancel_stream",
    "tokenize_request",
    "tokenize_reply",
    "detokenize_request",
    "detokenize_reply",
    "expert_call",
    "expert_reply",
    "node_report",
    "report_reply",
    "nudge",
    "fleet_request",
    "fleet",
    "register_model",
    "resolve_model",
    "list_models",
    "model_list",
    "model_record",
    "set_alias",
    "digests_request",
    "model_digests",
    "admin_request",
    "admin_reply",
    "key_question",
    "key_answer",
    "usage_batch",
    "recorded",
    "lease_request",
    "lease_reply",
    "audit_event",
    "deployments_request",
    "deployment_list",
    "catalog_changed",
    "state_request",
    "state_reply",
};

template <class T>
constexpr std::size_t scratch_words() {
  const bool hot = std::is_same_v<T, ExpertCall> || std::is_same_v<T, ExpertReply>;
  return hot ? codec::kHotWords : codec::kColdWords;
}

using DecodeBody = base::Result<Message> (*)(std::span<const std::byte>);

template <std::size_t I>
base::Result<Message> decode_body(std::span<const std::byte> bytes) {
  if constexpr (I == 0) {
    if (!bytes.empty()) return base::fail(ErrorCode::kCorruptData, "a body where there is none");
    return Message();
  } else {
    base::Result<Message> message(tl::in_place, std::in_place_index<I>);
    if (auto status = codec::unpack(bytes, std::get<I>(*message)); !status) {
      return base::fail(status.error().within(kTypeNames[I]));
    }
    return message;
  }
}

template <std::size_t... I>
constexpr std::array<DecodeBody, sizeof...(I)> decoders(std::index_sequence<I...>) {
  return {decode_body<I>...};
}

constexpr auto kDecoders = decoders(std::make_index_sequence<kMessageTypes>());

}  // namespace

std::string_view type_name(std::uint16_t type) {
  return type < kTypeNames.size() ? kTypeNames[type] : "unknown";
}

Bytes encode(const Envelope& envelope) {
  auto bytes = codec::pack<codec::kHotWords>(envelope);
  CONCLAVE_CHECK(bytes.has_value());
  return std::move(*bytes);
}

base::Result<Bytes> try_encode(const Message& message) {
  return std::visit(
      [&]<class T>(const T& body) -> base::Result<Bytes> {
        if constexpr (std::is_same_v<T, std::monostate>) {
          return Bytes();
        } else {
          auto bytes = codec::pack<scratch_words<T>()>(body);
          if (!bytes) return base::fail(bytes.error().within(type_name(type_of(message))));
          return bytes;
        }
      },
      message);
}

Bytes encode(const Message& message) {
  auto bytes = try_encode(message);
  CONCLAVE_CHECK(bytes.has_value());
  return std::move(*bytes);
}

base::Result<Envelope> decode_envelope(std::span<const std::byte> bytes) {
  base::Result<Envelope> envelope(tl::in_place);
  if (auto status = codec::unpack(bytes, *envelope); !status) {
    return base::fail(status.error().within("envelope"));
  }
  return envelope;
}

base::Result<Message> decode(std::uint16_t type, std::span<const std::byte> bytes) {
  if (type >= kDecoders.size()) {
    return base::fail(ErrorCode::kUnimplemented, "message type " + std::to_string(type));
  }
  return kDecoders[type](bytes);
}

}  // namespace conclave::wire
