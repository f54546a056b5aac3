#include "frame.hpp"

#include <kj/exception.h>

#include <cstdint>
#include <memory>
#include <string>

#include "conclave/base/utf8.hpp"

namespace conclave::wire::codec {

using base::ErrorCode;

namespace {

// The table of segments of a message with one: {count - 1, words}, little-endian.
constexpr std::size_t kTableBytes = 8;
constexpr std::size_t kWordBytes = sizeof(capnp::word);

// The deepest message, ReportReply, is a struct, its fleet, the list of nodes, one of them, its
// report, that one's model and a text of it; every list element counts once more.
constexpr int kNestingMax = 12;

void put_u32(std::byte* to, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<std::byte>(value >> (8 * i));
}

std::uint32_t get_u32(const std::byte* from) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(from[i]) << (8 * i);
  return value;
}

void put_table(std::byte* to, std::size_t words) {
  put_u32(to, 0);
  put_u32(to + 4, static_cast<std::uint32_t>(words));
}

void check_bytes(std::size_t bytes) {
  if (bytes > kMessageBytesMax) {
    refuse_size(ErrorCode::kInvalidArgument, "message bytes", bytes, kMessageBytesMax);
  }
}

// The one segment of a frame, still at its place.
base::Result<std::span<const std::byte>> segment_of(std::span<const std::byte> bytes) {
  const auto corrupt = [&](const char* problem) {
    return base::fail(ErrorCode::kCorruptData, std::to_string(bytes.size()) + " bytes: " + problem);
  };
  if (bytes.size() > kMessageBytesMax) return corrupt("longer than a message may be");
  if (bytes.size() < kTableBytes + kWordBytes || bytes.size() % kWordBytes != 0) {
    return corrupt("not a whole message");
  }
  if (get_u32(bytes.data()) != 0) return corrupt("not one segment");
  const std::span<const std::byte> segment = bytes.subspan(kTableBytes);
  if (get_u32(bytes.data() + 4) != segment.size() / kWordBytes) {
    return corrupt("not as long as its table says");
  }
  return segment;
}

base::Status read_segment(kj::ArrayPtr<const capnp::word> segment, ReadRoot read_root, void* to) {
  // No pointer of an honest message is followed twice; the root pointer itself counts as well.
  capnp::ReaderOptions options;
  options.traversalLimitInWords = segment.size() + 1;
  options.nestingLimit = kNestingMax;
  try {
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&segment, 1), options);
    const auto root = reader.getRoot<capnp::AnyPointer>();
    if (root.isNull()) return base::fail(ErrorCode::kCorruptData, "no root");
    Decoder decoder(segment.size());
    read_root(decoder, root, to);
    return {};
  } catch (const Refused& refused) {
    return base::fail(refused.error);
  } catch (const kj::Exception& exception) {
    // It may quote a byte of the message.
    return base::fail(ErrorCode::kCorruptData,
                      base::utf8::sanitize(exception.getDescription().cStr()));
  }
}

}  // namespace

Bytes flatten(capnp::MessageBuilder& builder) {
  const auto segments = builder.getSegmentsForOutput();
  std::size_t words = 0;
  for (const auto& segment : segments) words += segment.size();
  check_bytes(kTableBytes + words * kWordBytes);
  Bytes bytes(kTableBytes + words * kWordBytes);
  if (segments.size() == 1) {
    std::memcpy(bytes.data() + kTableBytes, segments[0].begin(), words * kWordBytes);
  } else {
    // Without the pointers between segments the copy can only be shorter.
    capnp::FlatMessageBuilder flat(
        {reinterpret_cast<capnp::word*>(bytes.data() + kTableBytes), words});
    flat.setRoot(builder.getRoot<capnp::AnyPointer>().asReader());
    words = flat.getSegmentsForOutput()[0].size();
    bytes.resize(kTableBytes + words * kWordBytes);
  }
  put_table(bytes.data(), words);
  return bytes;
}

base::Status open(std::span<const std::byte> bytes, ReadRoot read_root, void* to) {
  CONCLAVE_TRY(const auto segment, segment_of(bytes));
  const std::size_t words = segment.size() / kWordBytes;
  if (reinterpret_cast<std::uintptr_t>(segment.data()) % kWordBytes == 0) {
    return read_segment({reinterpret_cast<const capnp::word*>(segment.data()), words}, read_root,
                        to);
  }
  // ZeroMQ's frames mostly are not aligned, and Cap'n Proto throws at those.
  if (words <= kHotWords) {
    alignas(kWordBytes) std::byte aligned[kHotWords * kWordBytes];
    std::memcpy(aligned, segment.data(), segment.size());
    return read_segment({reinterpret_cast<const capnp::word*>(aligned), words}, read_root, to);
  }
  const auto aligned = std::make_unique_for_overwrite<std::uint64_t[]>(words);
  std::memcpy(aligned.get(), segment.data(), segment.size());
  return read_segment({reinterpret_cast<const capnp::word*>(aligned.get()), words}, read_root, to);
}

}  // namespace conclave::wire::codec
