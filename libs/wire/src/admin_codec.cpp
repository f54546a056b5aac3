#include "codecs.hpp"

namespace conclave::wire::codec {

void write(Encoder& encoder, schema::AdminRequest::Builder to, const AdminRequest& from) {
  to.setMethod(encoder.text(from.method, kNameBytesMax, "method"));
  to.setPath(encoder.text(from.path, kAdminTargetBytesMax, "path"));
  to.setQuery(encoder.text(from.query, kAdminTargetBytesMax, "query"));
  to.setBody(encoder.data(from.body, kAdminBodyBytesMax, "body"));
  to.setIfMatch(encoder.text(from.if_match, kNameBytesMax, "if_match"));
  to.setRequestId(encoder.text(from.request_id, kRequestIdBytesMax, "request_id"));
  write(encoder, to.initSubject(), from.subject);
}

void read(Decoder& decoder, schema::AdminRequest::Reader from, AdminRequest& to) {
  to.method = decoder.text(from.getMethod(), kNameBytesMax, "method");
  to.path = decoder.text(from.getPath(), kAdminTargetBytesMax, "path");
  to.query = decoder.text(from.getQuery(), kAdminTargetBytesMax, "query");
  to.body = decoder.data(from.getBody(), kAdminBodyBytesMax, "body");
  to.if_match = decoder.text(from.getIfMatch(), kNameBytesMax, "if_match");
  to.request_id = decoder.text(from.getRequestId(), kRequestIdBytesMax, "request_id");
  if (!from.hasSubject()) refuse(base::ErrorCode::kCorruptData, "subject", "is missing");
  read(decoder, from.getSubject(), to.subject);
}

void write(Encoder& encoder, schema::AdminReply::Builder to, const AdminReply& from) {
  to.setStatus(from.status);
  to.setContentType(encoder.text(from.content_type, kNameBytesMax, "content_type"));
  to.setBody(encoder.data(from.body, kMessageBytesMax, "body"));
  to.setEtag(encoder.text(from.etag, kNameBytesMax, "etag"));
  to.setLocation(encoder.text(from.location, kAdminTargetBytesMax, "location"));
  to.setStale(from.stale);
  to.setRetryAfterS(from.retry_after_s);
}

void read(Decoder& decoder, schema::AdminReply::Reader from, AdminReply& to) {
  to.status = from.getStatus();
  to.content_type = decoder.text(from.getContentType(), kNameBytesMax, "content_type");
  to.body = decoder.data(from.getBody(), kMessageBytesMax, "body");
  to.etag = decoder.text(from.getEtag(), kNameBytesMax, "etag");
  to.location = decoder.text(from.getLocation(), kAdminTargetBytesMax, "location");
  to.stale = from.getStale();
  to.retry_after_s = from.getRetryAfterS();
}

}  // namespace conclave::wire::codec
