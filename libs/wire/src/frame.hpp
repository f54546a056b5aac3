// One message of Cap'n Proto as the bytes of a frame: one segment behind its table, whole.
#pragma once

#include <capnp/any.h>
#include <capnp/message.h>

#include <cstddef>
#include <cstring>
#include <span>

#include "codecs.hpp"
#include "coder.hpp"
#include "conclave/base/result.hpp"
#include "conclave/wire/message.hpp"

namespace conclave::wire::codec {

/// Stack memory that messages are built in, in words; longer ones go on in memory of their own and
/// are copied once more. Of the envelope and the headers of calls, which go with every expert call:
/// the largest, an envelope with a trace and the longest target, takes 45.
inline constexpr std::size_t kHotWords = 48;
/// Of everything else: enough for a step's tokens of some forty streams.
inline constexpr std::size_t kColdWords = 512;

/// `builder`'s message as one segment behind its table. Refused beyond kMessageBytesMax.
Bytes flatten(capnp::MessageBuilder& builder);

/// The bytes of one message. kInvalidArgument: beyond limits.hpp.
template <std::size_t kWords, class T>
base::Result<Bytes> pack(const T& from) {
  alignas(8) capnp::word scratch[kWords];
  std::memset(static_cast<void*>(scratch), 0, sizeof(scratch));
  try {
    capnp::MallocMessageBuilder builder(kj::arrayPtr(scratch, kWords));
    Encoder encoder;
    write(encoder, builder.initRoot<typename SchemaOf<T>::type>(), from);
    return flatten(builder);
  } catch (const Refused& refused) {
    return base::fail(refused.error);
  }
}

using ReadRoot = void (*)(Decoder& decoder, capnp::AnyPointer::Reader root, void* to);

/// Opens a frame of any alignment and calls `read_root(.., to)`. kCorruptData, or as that refuses.
base::Status open(std::span<const std::byte> bytes, ReadRoot read_root, void* to);

/// Fills `to` from the bytes of one message; what it holds after an error is of no use.
template <class T>
base::Status unpack(std::span<const std::byte> bytes, T& to) {
  return open(
      bytes,
      [](Decoder& decoder, capnp::AnyPointer::Reader root, void* target) {
        read(decoder, root.getAs<typename SchemaOf<T>::type>(), *static_cast<T*>(target));
      },
      &to);
}

}  // namespace conclave::wire::codec
