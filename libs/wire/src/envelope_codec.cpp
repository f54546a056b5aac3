#include "codecs.hpp"

namespace conclave::wire::codec {

void write(Encoder& encoder, schema::Envelope::Builder to, const Envelope& from) {
  to.setVersion(from.version);
  to.setKind(static_cast<schema::FrameKind>(from.kind));
  to.setType(static_cast<schema::MessageType>(from.type));
  to.setRequestId(from.request_id);
  to.setIncarnation(from.incarnation);
  to.setDeadlineUnixNs(from.deadline_unix_ns);
  if (from.trace != TraceContext{}) write(encoder, to.initTrace(), from.trace);
  if (!from.target.empty()) {
    to.setTarget(encoder.text(from.target, kNameBytesMax, "envelope.target"));
  }
  to.setPayloadBytes(from.payload_bytes);
}

void read(Decoder& decoder, schema::Envelope::Reader from, Envelope& to) {
  to.version = from.getVersion();
  if (to.version != kWireVersion) {
    refuse(base::ErrorCode::kUnimplemented, "envelope.version", std::to_string(to.version));
  }
  // All kinds of a version are known to all of its builds: an unknown one is no newer message.
  const auto kind = static_cast<std::uint16_t>(from.getKind());
  if (kind == 0 || kind > static_cast<std::uint16_t>(FrameKind::kGoodbye)) {
    refuse(base::ErrorCode::kCorruptData, "envelope.kind", std::to_string(kind));
  }
  to.kind = static_cast<FrameKind>(kind);
  to.type = static_cast<std::uint16_t>(from.getType());
  to.request_id = from.getRequestId();
  to.incarnation = from.getIncarnation();
  to.deadline_unix_ns = from.getDeadlineUnixNs();
  if (from.hasTrace()) read(decoder, from.getTrace(), to.trace);
  to.target = decoder.text(from.getTarget(), kNameBytesMax, "envelope.target");
  to.payload_bytes = from.getPayloadBytes();
}

void write(Encoder& encoder, schema::Hello::Builder to, const Hello& from) {
  to.setNode(encoder.text(from.node, kNameBytesMax, "node"));
  to.setRole(static_cast<schema::NodeRole>(from.role));
  to.setIncarnation(from.incarnation);
}

void read(Decoder& decoder, schema::Hello::Reader from, Hello& to) {
  to.node = decoder.text(from.getNode(), kNameBytesMax, "node");
  to.role = decoder.enumerant(from.getRole(), NodeRole::kOperator, "role");
  to.incarnation = from.getIncarnation();
}

void write(Encoder& encoder, schema::ErrorBody::Builder to, const ErrorBody& from) {
  write(encoder, to.initError(), from.error);
}

void read(Decoder& decoder, schema::ErrorBody::Reader from, ErrorBody& to) {
  read(decoder, from.getError(), to.error);
}

}  // namespace conclave::wire::codec
