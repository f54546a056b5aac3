// What every codec needs: bounded text and lists, in both directions.
//
// Inside of this library a message is given up by throwing Refused, as Cap'n Proto's own readers
// throw kj::Exception; frame.cpp catches both and makes an Error of them. Neither leaves the
// library.
#pragma once

#include <capnp/blob.h>
#include <capnp/list.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/error.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::wire::codec {

struct Refused {
  base::Error error;
};

/// The message breaks a rule: kCorruptData when read, kInvalidArgument when written.
[[noreturn]] void refuse(base::ErrorCode code, std::string_view field, std::string_view problem);
[[noreturn]] void refuse_size(base::ErrorCode code, std::string_view field, std::size_t size,
                              std::size_t limit);

/// How many experts a model of so many layers and experts a layer has, within its limits.
std::size_t check_shape(base::ErrorCode code, std::uint32_t layers, std::uint32_t experts);

/// Fills a message. Values beyond a limit are refused with kInvalidArgument.
class Encoder {
 public:
  /// UTF-8.
  capnp::Text::Reader text(const std::string& value, std::size_t limit, std::string_view field);
  /// Any bytes.
  capnp::Data::Reader data(const std::string& value, std::size_t limit, std::string_view field);
  /// A sentence for people, which may quote anything: cut to kErrorBytesMax and made UTF-8 if need
  /// be. Valid until the next call.
  capnp::Text::Reader prose(const std::string& value);
  /// The length of a list.
  capnp::uint size(std::size_t size, std::size_t limit, std::string_view field);

  template <class List, class T>
  void numbers(List to, const std::vector<T>& from) {
    for (capnp::uint i = 0; i < to.size(); ++i) to.set(i, from[i]);
  }

 private:
  std::string prose_;
};

/// Reads a message. What breaks a rule is refused with kCorruptData, before anything is allocated
/// for it. Every pointer is followed once: the traversal limit is the size of the message.
class Decoder {
 public:
  /// `words`: of the whole message. Every element of a list of structs or texts that we write takes
  /// at least one of them, so no honest message has more elements; a forged one could claim
  /// elements of no size, or share them.
  explicit Decoder(std::size_t words) : elements_left_(words) {}

  std::string text(capnp::Text::Reader from, std::size_t limit, std::string_view field);
  std::string data(capnp::Data::Reader from, std::size_t limit, std::string_view field);

  /// Checks a count of structs, texts or blobs and takes it from the message's budget.
  void elements(std::size_t count, std::size_t limit, std::string_view field);

  template <class List, class T>
  void numbers(List from, std::vector<T>& to, std::size_t limit, std::string_view field) {
    check_size(from.size(), limit, field);
    to.resize(from.size());
    for (capnp::uint i = 0; i < from.size(); ++i) to[i] = from[i];
  }

  void texts(capnp::List<capnp::Text>::Reader from, std::vector<std::string>& to, std::size_t limit,
             std::size_t text_limit, std::string_view field);

  /// An enumerant as ours, which has the same numbers, `last` being the greatest: kUnimplemented
  /// beyond. 0 is corrupt unless it is one of ours.
  template <class E, class Wire>
  E enumerant(Wire from, E last, std::string_view field) {
    return static_cast<E>(
        check_enumerant(static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(last), field));
  }
  template <class E, class Wire>
  E enumerant_or_zero(Wire from, E last, std::string_view field) {
    return from == Wire{} ? E{} : enumerant(from, last, field);
  }

 private:
  void check_size(std::size_t size, std::size_t limit, std::string_view field);
  std::uint16_t check_enumerant(std::uint16_t value, std::uint16_t last, std::string_view field);

  std::size_t elements_left_;
};

}  // namespace conclave::wire::codec
