// What the two ends of a data link say to each other, beside the calls themselves
// (schemas/expert.capnp).
//
// The link. Over ZeroMQ (client: DEALER, server: ROUTER), every message being the frames
// [envelope][body][payload]:
//   client: hello (body: Hello)
//   server: welcome (body: Hello; payload: LocalOffer, if it lends its memory) or error (ErrorBody)
//   client: calls: request (body: ExpertCall; payload)
//   server: reply (body: ExpertReply; payload if ok); heartbeat, to see who is gone
//
// The local road. A client that can reach the offered local socket connects to it, and sends
// LocalOpening with the descriptor of a sealed memory segment; the server answers LocalAnswer. From
// then on calls are packets [PacketHead][envelope][body] both ways, and payloads lie in the
// segment: the call's at PacketHead::offset, which the client chooses, the reply's behind it.
// `payloadBytes` counts them as if they were frames. Calls that do not fit into the segment go as
// frames still.
//
// All integers are little-endian; the local road never leaves a host.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/fabric/call_server.hpp"
#include "conclave/wire/expert.hpp"
#include "conclave/wire/message.hpp"
#include "local_socket.hpp"

namespace conclave::fabric {

enum class Road : std::uint8_t { kShared, kFrames, kDirect };
inline constexpr std::size_t kRoads = 3;

/// "shared", "frames", "direct".
std::string_view to_string(Road road);

struct LocalOffer {
  Random128 name{};   // of the local socket
  Random128 token{};  // proves that the one who connects is the one who was told
};
inline constexpr std::size_t kOfferBytes = 8 + 2 * sizeof(Random128);
std::array<std::byte, kOfferBytes> encode_offer(const LocalOffer& offer);
/// Nothing: not an offer of this version.
std::optional<LocalOffer> decode_offer(std::span<const std::byte> bytes);

inline constexpr std::size_t kOpeningBytes = 8 + sizeof(Random128);
std::array<std::byte, kOpeningBytes> encode_opening(const Random128& token);
std::optional<Random128> decode_opening(std::span<const std::byte> bytes);

inline constexpr std::size_t kAnswerBytes = 8;
std::array<std::byte, kAnswerBytes> encode_answer(bool accepted);
/// Whether it is an answer that accepts.
bool accepts(std::span<const std::byte> bytes);

struct PacketHead {
  std::uint32_t envelope_bytes = 0;
  std::uint32_t body_bytes = 0;
  std::uint64_t offset = 0;
};
/// Room for the longest error message, names and the rest, four times over.
inline constexpr std::size_t kPacketBytesMax = 16 << 10;

struct Packet {
  std::span<const std::byte> envelope;
  std::span<const std::byte> body;
  std::uint64_t offset = 0;
};
/// Nothing: its lengths contradict each other.
std::optional<Packet> split_packet(std::span<const std::byte> bytes);

/// Sends [head][envelope][body]. False: the peer is gone, or does not read.
bool send_packet(LocalSocket& socket, std::span<const std::byte> envelope,
                 std::span<const std::byte> body, std::uint64_t offset);

/// Where a call's reply is in its block of the segment, and how large that block is.
std::size_t reply_offset(const wire::CallLayout& layout);
std::size_t block_bytes(const wire::CallLayout& layout);

/// The pairs of a payload of at least layout_of(call).bytes, aligned.
std::span<const CallPair> pairs_of(const wire::ExpertCall& call,
                                   std::span<const std::byte> payload);
/// kInvalidArgument: a row that is not there, or pairs out of order.
base::Status check_pairs(std::span<const CallPair> pairs, std::uint32_t rows);

}  // namespace conclave::fabric
