// Messages that our encoder would refuse to write, for tests of the decoder.
#pragma once

#include <capnp/message.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <span>

#include "codecs.hpp"

namespace conclave::wire::testing_build {

/// One segment behind its table.
inline Bytes frame(std::span<const std::byte> segment) {
  Bytes bytes(8 + segment.size());
  const auto words = static_cast<std::uint32_t>(segment.size() / 8);
  std::memcpy(bytes.data() + 4, &words, sizeof(words));
  std::memcpy(bytes.data() + 8, segment.data(), segment.size());
  return bytes;
}

/// The bytes of a message of T that `fill` fills in; one segment, if it has at most `words`.
template <class T>
Bytes build(const std::function<void(typename codec::SchemaOf<T>::type::Builder)>& fill,
            capnp::uint words = 1 << 12) {
  capnp::MallocMessageBuilder builder(words);
  fill(builder.initRoot<typename codec::SchemaOf<T>::type>());
  return frame(std::as_bytes(std::span(builder.getSegmentsForOutput()[0].asBytes().begin(),
                                       builder.getSegmentsForOutput()[0].asBytes().size())));
}

/// The same, beginning as `from`.
template <class T>
Bytes build_from(const T& from,
                 const std::function<void(typename codec::SchemaOf<T>::type::Builder)>& change,
                 capnp::uint words = 1 << 12) {
  return build<T>(
      [&](auto to) {
        codec::Encoder encoder;
        write(encoder, to, from);
        change(to);
      },
      words);
}

}  // namespace conclave::wire::testing_build
