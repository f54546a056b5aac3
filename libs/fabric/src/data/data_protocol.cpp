#include "data_protocol.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "conclave/base/aligned.hpp"

namespace conclave::fabric {

namespace {

/// In front of each of the small messages: what it is, and of which version.
struct Mark {
  std::uint32_t magic = 0;
  std::uint32_t version = 1;
  friend bool operator==(const Mark&, const Mark&) = default;
};
constexpr Mark kOffer{0x46464f43};    // "COFF"
constexpr Mark kOpening{0x4e504f43};  // "COPN"
constexpr Mark kAccept{0x594f4143};   // "CAOY"
constexpr Mark kRefuse{0x4e4f4143};   // "CAON"

template <std::size_t Bytes>
std::array<std::byte, Bytes> marked(const Mark& mark) {
  std::array<std::byte, Bytes> bytes{};
  std::memcpy(bytes.data(), &mark, sizeof mark);
  return bytes;
}

bool is_marked(std::span<const std::byte> bytes, const Mark& mark, std::size_t size) {
  return bytes.size() == size && std::memcmp(bytes.data(), &mark, sizeof mark) == 0;
}

static_assert(sizeof(CallPair) == 8 && alignof(CallPair) == 4);  // as schemas/expert.capnp says

}  // namespace

std::string_view to_string(Road road) {
  switch (road) {
    case Road::kShared:
      return "shared";
    case Road::kFrames:
      return "frames";
    case Road::kDirect:
      return "direct";
  }
  return "unknown";
}

std::array<std::byte, kOfferBytes> encode_offer(const LocalOffer& offer) {
  auto bytes = marked<kOfferBytes>(kOffer);
  std::memcpy(bytes.data() + sizeof(Mark), offer.name.data(), offer.name.size());
  std::memcpy(bytes.data() + sizeof(Mark) + sizeof offer.name, offer.token.data(),
              offer.token.size());
  return bytes;
}

std::optional<LocalOffer> decode_offer(std::span<const std::byte> bytes) {
  if (!is_marked(bytes, kOffer, kOfferBytes)) return std::nullopt;
  LocalOffer offer;
  std::memcpy(offer.name.data(), bytes.data() + sizeof(Mark), offer.name.size());
  std::memcpy(offer.token.data(), bytes.data() + sizeof(Mark) + sizeof offer.name,
              offer.token.size());
  return offer;
}

std::array<std::byte, kOpeningBytes> encode_opening(const Random128& token) {
  auto bytes = marked<kOpeningBytes>(kOpening);
  std::memcpy(bytes.data() + sizeof(Mark), token.data(), token.size());
  return bytes;
}

std::optional<Random128> decode_opening(std::span<const std::byte> bytes) {
  if (!is_marked(bytes, kOpening, kOpeningBytes)) return std::nullopt;
  Random128 token{};
  std::memcpy(token.data(), bytes.data() + sizeof(Mark), token.size());
  return token;
}

std::array<std::byte, kAnswerBytes> encode_answer(bool accepted) {
  return marked<kAnswerBytes>(accepted ? kAccept : kRefuse);
}

bool accepts(std::span<const std::byte> bytes) { return is_marked(bytes, kAccept, kAnswerBytes); }

std::optional<Packet> split_packet(std::span<const std::byte> bytes) {
  PacketHead head;
  if (bytes.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, bytes.data(), sizeof head);
  bytes = bytes.subspan(sizeof head);
  if (std::uint64_t{head.envelope_bytes} + head.body_bytes != bytes.size()) return std::nullopt;
  return Packet{bytes.first(head.envelope_bytes), bytes.subspan(head.envelope_bytes), head.offset};
}

bool send_packet(LocalSocket& socket, std::span<const std::byte> envelope,
                 std::span<const std::byte> body, std::uint64_t offset) {
  const PacketHead head{static_cast<std::uint32_t>(envelope.size()),
                        static_cast<std::uint32_t>(body.size()), offset};
  const std::array parts{std::as_bytes(std::span(&head, 1)), envelope, body};
  return socket.send(parts);
}

std::size_t reply_offset(const wire::CallLayout& layout) {
  return (layout.bytes + base::kCacheLine - 1) / base::kCacheLine * base::kCacheLine;
}

std::size_t block_bytes(const wire::CallLayout& layout) {
  return reply_offset(layout) + layout.reply_bytes;
}

std::span<const CallPair> pairs_of(const wire::ExpertCall& call,
                                   std::span<const std::byte> payload) {
  return {reinterpret_cast<const CallPair*>(payload.data()), call.pairs};  // they come first
}

base::Status check_pairs(std::span<const CallPair> pairs, std::uint32_t rows) {
  std::uint32_t highest_row = 0;
  for (const CallPair& pair : pairs) highest_row = std::max(highest_row, pair.row);
  if (highest_row >= rows) {
    return base::fail(
        base::ErrorCode::kInvalidArgument,
        "a pair of row " + std::to_string(highest_row) + " of " + std::to_string(rows));
  }
  if (!std::is_sorted(pairs.begin(), pairs.end())) {
    return base::fail(base::ErrorCode::kInvalidArgument, "pairs are not sorted by expert and row");
  }
  return {};
}

}  // namespace conclave::fabric
