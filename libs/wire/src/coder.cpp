#include "coder.hpp"

#include <algorithm>

#include "conclave/base/utf8.hpp"

namespace conclave::wire::codec {

using base::ErrorCode;

namespace {

void cut(std::string& text, std::size_t limit) {
  if (text.size() <= limit) return;
  text.resize(limit);
  text.resize(limit - base::utf8::incomplete_suffix(text));
}

kj::ArrayPtr<const kj::byte> as_bytes(const std::string& value) {
  return {reinterpret_cast<const kj::byte*>(value.data()), value.size()};
}

}  // namespace

void refuse(ErrorCode code, std::string_view field, std::string_view problem) {
  throw Refused{{code, std::string(field).append(": ").append(problem)}};
}

void refuse_size(ErrorCode code, std::string_view field, std::size_t size, std::size_t limit) {
  refuse(code, field, std::to_string(size) + ", at most " + std::to_string(limit));
}

std::size_t check_shape(ErrorCode code, std::uint32_t layers, std::uint32_t experts) {
  if (layers > kLayersMax) refuse_size(code, "layers", layers, kLayersMax);
  if (experts > kExpertsMax) refuse_size(code, "experts", experts, kExpertsMax);
  const std::size_t all = std::size_t{layers} * experts;
  if (all > kAllExpertsMax) refuse_size(code, "layers * experts", all, kAllExpertsMax);
  return all;
}

capnp::Text::Reader Encoder::text(const std::string& value, std::size_t limit,
                                  std::string_view field) {
  size(value.size(), limit, field);
  if (!base::utf8::valid(value)) refuse(ErrorCode::kInvalidArgument, field, "not UTF-8");
  return {value.c_str(), value.size()};
}

capnp::Data::Reader Encoder::data(const std::string& value, std::size_t limit,
                                  std::string_view field) {
  size(value.size(), limit, field);
  return as_bytes(value);
}

capnp::Text::Reader Encoder::prose(const std::string& value) {
  prose_ = value;
  cut(prose_, kErrorBytesMax);
  if (!base::utf8::valid(prose_)) {
    prose_ = base::utf8::sanitize(prose_);
    cut(prose_, kErrorBytesMax);  // U+FFFD is longer than what it replaces
  }
  return {prose_.c_str(), prose_.size()};
}

capnp::uint Encoder::size(std::size_t size, std::size_t limit, std::string_view field) {
  if (size > limit) refuse_size(ErrorCode::kInvalidArgument, field, size, limit);
  return static_cast<capnp::uint>(size);
}

std::string Decoder::text(capnp::Text::Reader from, std::size_t limit, std::string_view field) {
  check_size(from.size(), limit, field);
  const std::string_view view(from.begin(), from.size());
  if (!base::utf8::valid(view)) refuse(ErrorCode::kCorruptData, field, "not UTF-8");
  return std::string(view);
}

std::string Decoder::data(capnp::Data::Reader from, std::size_t limit, std::string_view field) {
  check_size(from.size(), limit, field);
  return {reinterpret_cast<const char*>(from.begin()), from.size()};
}

void Decoder::elements(std::size_t count, std::size_t limit, std::string_view field) {
  check_size(count, std::min(limit, elements_left_), field);
  elements_left_ -= count;
}

void Decoder::texts(capnp::List<capnp::Text>::Reader from, std::vector<std::string>& to,
                    std::size_t limit, std::size_t text_limit, std::string_view field) {
  elements(from.size(), limit, field);
  to.reserve(from.size());
  for (const capnp::Text::Reader item : from) to.push_back(text(item, text_limit, field));
}

void Decoder::check_size(std::size_t size, std::size_t limit, std::string_view field) {
  if (size > limit) refuse_size(ErrorCode::kCorruptData, field, size, limit);
}

std::uint16_t Decoder::check_enumerant(std::uint16_t value, std::uint16_t last,
                                       std::string_view field) {
  if (value == 0) refuse(ErrorCode::kCorruptData, field, "not set");
  if (value > last) refuse(ErrorCode::kUnimplemented, field, "value " + std::to_string(value));
  return value;
}

}  // namespace conclave::wire::codec
