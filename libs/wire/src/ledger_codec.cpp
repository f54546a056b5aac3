#include "codecs.hpp"

namespace conclave::wire::codec {

void write(Encoder& encoder, schema::Subject::Builder to, const Subject& from) {
  to.setTenant(encoder.text(from.tenant, kNameBytesMax, "tenant"));
  to.setKeyId(encoder.text(from.key_id, kNameBytesMax, "key_id"));
  to.setRole(static_cast<schema::AccessRole>(from.role));
}

void read(Decoder& decoder, schema::Subject::Reader from, Subject& to) {
  to.tenant = decoder.text(from.getTenant(), kNameBytesMax, "tenant");
  to.key_id = decoder.text(from.getKeyId(), kNameBytesMax, "key_id");
  to.role = decoder.enumerant_or_zero(from.getRole(), AccessRole::kAdmin, "role");
}

void write(Encoder&, schema::KeyQuestion::Builder to, const KeyQuestion& from) {
  to.setSecretSha256(digest_data(from.secret_sha256));
}

void read(Decoder&, schema::KeyQuestion::Reader from, KeyQuestion& to) {
  to.secret_sha256 = read_digest(from.getSecretSha256(), "secret_sha256");
}

namespace {

void write(schema::TenantQuota::Builder to, const TenantQuota& from) {
  to.setRequestsPerMinute(from.requests_per_minute);
  to.setTokensPerMinute(from.tokens_per_minute);
  to.setTokensPerDay(from.tokens_per_day);
  to.setTokensPerMonth(from.tokens_per_month);
  to.setConcurrentRequests(from.concurrent_requests);
  to.setDay(from.day);
  to.setDayTokens(from.day_tokens);
  to.setMonthTokens(from.month_tokens);
}

void read(schema::TenantQuota::Reader from, TenantQuota& to) {
  to.requests_per_minute = from.getRequestsPerMinute();
  to.tokens_per_minute = from.getTokensPerMinute();
  to.tokens_per_day = from.getTokensPerDay();
  to.tokens_per_month = from.getTokensPerMonth();
  to.concurrent_requests = from.getConcurrentRequests();
  to.day = from.getDay();
  to.day_tokens = from.getDayTokens();
  to.month_tokens = from.getMonthTokens();
}

}  // namespace

void write(Encoder& encoder, schema::KeyAnswer::Builder to, const KeyAnswer& from) {
  to.setValid(from.valid);
  to.setReason(encoder.prose(from.reason));
  if (from.subject != Subject{}) write(encoder, to.initSubject(), from.subject);
  auto models = to.initModels(encoder.size(from.models.size(), kKeyModelsMax, "models"));
  for (capnp::uint i = 0; i < models.size(); ++i) {
    models.set(i, encoder.text(from.models[i], kNameBytesMax, "models"));
  }
  to.setExpiresUnixMs(from.expires_unix_ms);
  to.setStale(from.stale);
  if (from.quota != TenantQuota{}) write(to.initQuota(), from.quota);
}

void read(Decoder& decoder, schema::KeyAnswer::Reader from, KeyAnswer& to) {
  to.valid = from.getValid();
  to.reason = decoder.text(from.getReason(), kErrorBytesMax, "reason");
  if (from.hasSubject()) read(decoder, from.getSubject(), to.subject);
  decoder.texts(from.getModels(), to.models, kKeyModelsMax, kNameBytesMax, "models");
  to.expires_unix_ms = from.getExpiresUnixMs();
  to.stale = from.getStale();
  if (from.hasQuota()) read(from.getQuota(), to.quota);
}

namespace {

void write(Encoder& encoder, schema::UsageRow::Builder to, const UsageRow& from) {
  to.setTenant(encoder.text(from.tenant, kNameBytesMax, "tenant"));
  to.setKeyId(encoder.text(from.key_id, kNameBytesMax, "key_id"));
  to.setModel(encoder.text(from.model, kReferenceBytesMax, "model"));
  to.setDay(from.day);
  to.setRequests(from.requests);
  to.setPromptTokens(from.prompt_tokens);
  to.setCompletionTokens(from.completion_tokens);
  to.setExpertPairs(from.expert_pairs);
  to.setDeviceUs(from.device_us);
}

void read(Decoder& decoder, schema::UsageRow::Reader from, UsageRow& to) {
  to.tenant = decoder.text(from.getTenant(), kNameBytesMax, "tenant");
  to.key_id = decoder.text(from.getKeyId(), kNameBytesMax, "key_id");
  to.model = decoder.text(from.getModel(), kReferenceBytesMax, "model");
  to.day = from.getDay();
  to.requests = from.getRequests();
  to.prompt_tokens = from.getPromptTokens();
  to.completion_tokens = from.getCompletionTokens();
  to.expert_pairs = from.getExpertPairs();
  to.device_us = from.getDeviceUs();
}

}  // namespace

void write(Encoder& encoder, schema::UsageBatch::Builder to, const UsageBatch& from) {
  to.setId(encoder.text(from.id, kNameBytesMax, "id"));
  auto rows = to.initRows(encoder.size(from.rows.size(), kUsageRowsMax, "rows"));
  for (capnp::uint i = 0; i < rows.size(); ++i) write(encoder, rows[i], from.rows[i]);
}

void read(Decoder& decoder, schema::UsageBatch::Reader from, UsageBatch& to) {
  to.id = decoder.text(from.getId(), kNameBytesMax, "id");
  const auto rows = from.getRows();
  decoder.elements(rows.size(), kUsageRowsMax, "rows");
  to.rows.resize(rows.size());
  for (capnp::uint i = 0; i < rows.size(); ++i) read(decoder, rows[i], to.rows[i]);
}

void write(Encoder&, schema::Recorded::Builder to, const Recorded& from) {
  to.setFresh(from.fresh);
}

void read(Decoder&, schema::Recorded::Reader from, Recorded& to) { to.fresh = from.getFresh(); }

void write(Encoder& encoder, schema::LeaseRequest::Builder to, const LeaseRequest& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "name"));
  to.setHolder(encoder.text(from.holder, kNameBytesMax, "holder"));
  to.setTtlMs(from.ttl_ms);
}

void read(Decoder& decoder, schema::LeaseRequest::Reader from, LeaseRequest& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "name");
  to.holder = decoder.text(from.getHolder(), kNameBytesMax, "holder");
  to.ttl_ms = from.getTtlMs();
}

void write(Encoder& encoder, schema::LeaseReply::Builder to, const LeaseReply& from) {
  to.setHolder(encoder.text(from.holder, kNameBytesMax, "holder"));
  to.setToken(from.token);
  to.setLeftMs(from.left_ms);
}

void read(Decoder& decoder, schema::LeaseReply::Reader from, LeaseReply& to) {
  to.holder = decoder.text(from.getHolder(), kNameBytesMax, "holder");
  to.token = from.getToken();
  to.left_ms = from.getLeftMs();
}

void write(Encoder& encoder, schema::AuditEvent::Builder to, const AuditEvent& from) {
  to.setAction(encoder.text(from.action, kNameBytesMax, "action"));
  to.setSubject(encoder.text(from.subject, kReferenceBytesMax, "subject"));
  to.setDetails(encoder.text(from.details, kAdminTargetBytesMax, "details"));
}

void read(Decoder& decoder, schema::AuditEvent::Reader from, AuditEvent& to) {
  to.action = decoder.text(from.getAction(), kNameBytesMax, "action");
  to.subject = decoder.text(from.getSubject(), kReferenceBytesMax, "subject");
  to.details = decoder.text(from.getDetails(), kAdminTargetBytesMax, "details");
}

void write(Encoder& encoder, schema::StateRequest::Builder to, const StateRequest& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "name"));
  to.setToken(from.token);
  if (from.put) to.getPut().setData(encoder.data(*from.put, kStateBytesMax, "put"));
  to.setRevision(from.revision);
}

namespace {

void read_put(Decoder& decoder, schema::StateRequest::Put::Reader from,
              std::optional<std::string>& to) {
  switch (from.which()) {
    case schema::StateRequest::Put::NONE:
      return;
    case schema::StateRequest::Put::DATA:
      to = decoder.data(from.getData(), kStateBytesMax, "put");
      return;
  }
  refuse(base::ErrorCode::kUnimplemented, "put", "neither none nor data");
}

}  // namespace

void read(Decoder& decoder, schema::StateRequest::Reader from, StateRequest& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "name");
  to.token = from.getToken();
  read_put(decoder, from.getPut(), to.put);
  to.revision = from.getRevision();
}

void write(Encoder& encoder, schema::StateReply::Builder to, const StateReply& from) {
  to.setRevision(from.revision);
  to.setData(encoder.data(from.data, kStateBytesMax, "data"));
}

void read(Decoder& decoder, schema::StateReply::Reader from, StateReply& to) {
  to.revision = from.getRevision();
  to.data = decoder.data(from.getData(), kStateBytesMax, "data");
}

}  // namespace conclave::wire::codec
