#include <algorithm>
#include <span>

#include "codecs.hpp"

namespace conclave::wire::codec {

namespace {

// A model file's SHA-256 in hexadecimal.
constexpr std::size_t kHexBytesMax = 2 * sizeof(Sha256);

// Identifiers of a trace are numbers with the first byte in front, as they are printed.
std::uint64_t to_number(std::span<const std::uint8_t, 8> bytes) {
  std::uint64_t number = 0;
  for (const std::uint8_t byte : bytes) number = number << 8 | byte;
  return number;
}

void from_number(std::uint64_t number, std::span<std::uint8_t, 8> bytes) {
  for (std::size_t i = 8; i-- > 0; number >>= 8) bytes[i] = static_cast<std::uint8_t>(number);
}

}  // namespace

void write(Encoder& encoder, schema::Error::Builder to, const base::Error& from) {
  to.setCode(static_cast<schema::ErrorCode>(from.code));
  to.setMessage(encoder.prose(from.message));
}

void read(Decoder& decoder, schema::Error::Reader from, base::Error& to) {
  to.code = decoder.enumerant(from.getCode(), base::ErrorCode::kInternal, "error.code");
  to.message = decoder.text(from.getMessage(), kErrorBytesMax, "error.message");
}

void write(Encoder&, schema::TraceContext::Builder to, const TraceContext& from) {
  const std::span<const std::uint8_t, 16> id(from.trace_id);
  to.setTraceIdHigh(to_number(id.first<8>()));
  to.setTraceIdLow(to_number(id.last<8>()));
  to.setSpanId(to_number(from.span_id));
  to.setFlags(from.flags);
}

void read(Decoder&, schema::TraceContext::Reader from, TraceContext& to) {
  const std::span<std::uint8_t, 16> id(to.trace_id);
  from_number(from.getTraceIdHigh(), id.first<8>());
  from_number(from.getTraceIdLow(), id.last<8>());
  from_number(from.getSpanId(), to.span_id);
  to.flags = from.getFlags();
}

void write(Encoder& encoder, schema::ModelVersion::Builder to, const ModelVersion& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "model.name"));
  to.setVersion(from.version);
  to.setUri(encoder.text(from.uri, kUriBytesMax, "model.uri"));
  to.setSha256(encoder.text(from.sha256, kHexBytesMax, "model.sha256"));
}

void read(Decoder& decoder, schema::ModelVersion::Reader from, ModelVersion& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "model.name");
  to.version = from.getVersion();
  to.uri = decoder.text(from.getUri(), kUriBytesMax, "model.uri");
  to.sha256 = decoder.text(from.getSha256(), kHexBytesMax, "model.sha256");
}

capnp::Data::Reader digest_data(const Sha256& digest) {
  return {digest.data(), digest == Sha256{} ? 0 : digest.size()};
}

Sha256 read_digest(capnp::Data::Reader from, std::string_view field) {
  Sha256 digest{};
  if (from.size() == 0) return digest;
  if (from.size() != digest.size()) {
    refuse(base::ErrorCode::kCorruptData, field, "a SHA-256 has 32 bytes");
  }
  std::copy(from.begin(), from.end(), digest.begin());
  return digest;
}

}  // namespace conclave::wire::codec
