// write() and read() between every owned struct and its schema. write() fills `to`, which is new;
// read() fills `to`, which is default-constructed. Both throw Refused (coder.hpp).
#pragma once

#include "admin.capnp.h"
#include "coder.hpp"
#include "common.capnp.h"
#include "conclave/wire/message.hpp"
#include "envelope.capnp.h"
#include "expert.capnp.h"
#include "inference.capnp.h"
#include "ledger.capnp.h"
#include "placement.capnp.h"
#include "registry.capnp.h"

namespace conclave::wire::codec {

/// SchemaOf<Generate>::type is schema::Generate.
template <class T>
struct SchemaOf;

// Words that several conversations share.
void write(Encoder& encoder, schema::Error::Builder to, const base::Error& from);
void read(Decoder& decoder, schema::Error::Reader from, base::Error& to);
void write(Encoder& encoder, schema::TraceContext::Builder to, const TraceContext& from);
void read(Decoder& decoder, schema::TraceContext::Reader from, TraceContext& to);
void write(Encoder& encoder, schema::ModelVersion::Builder to, const ModelVersion& from);
void read(Decoder& decoder, schema::ModelVersion::Reader from, ModelVersion& to);

void write(Encoder& encoder, schema::Subject::Builder to, const Subject& from);
void read(Decoder& decoder, schema::Subject::Reader from, Subject& to);

/// A digest as data of 32 bytes, or of none if it is all zero.
capnp::Data::Reader digest_data(const Sha256& digest);
Sha256 read_digest(capnp::Data::Reader from, std::string_view field);

#define CONCLAVE_WIRE_CODEC(Type)                                           \
  template <>                                                               \
  struct SchemaOf<Type> {                                                   \
    using type = schema::Type;                                              \
  };                                                                        \
  void write(Encoder& encoder, schema::Type::Builder to, const Type& from); \
  void read(Decoder& decoder, schema::Type::Reader from, Type& to);

CONCLAVE_WIRE_CODEC(Envelope)
CONCLAVE_WIRE_CODEC(Hello)
CONCLAVE_WIRE_CODEC(ErrorBody)
CONCLAVE_WIRE_CODEC(Generate)
CONCLAVE_WIRE_CODEC(Accepted)
CONCLAVE_WIRE_CODEC(TokenEvents)
CONCLAVE_WIRE_CODEC(CancelStream)
CONCLAVE_WIRE_CODEC(TokenizeRequest)
CONCLAVE_WIRE_CODEC(TokenizeReply)
CONCLAVE_WIRE_CODEC(DetokenizeRequest)
CONCLAVE_WIRE_CODEC(DetokenizeReply)
CONCLAVE_WIRE_CODEC(ExpertCall)
CONCLAVE_WIRE_CODEC(ExpertReply)
CONCLAVE_WIRE_CODEC(NodeReport)
CONCLAVE_WIRE_CODEC(ReportReply)
CONCLAVE_WIRE_CODEC(Nudge)
CONCLAVE_WIRE_CODEC(FleetRequest)
CONCLAVE_WIRE_CODEC(Fleet)
CONCLAVE_WIRE_CODEC(RegisterModel)
CONCLAVE_WIRE_CODEC(ResolveModel)
CONCLAVE_WIRE_CODEC(ListModels)
CONCLAVE_WIRE_CODEC(ModelList)
CONCLAVE_WIRE_CODEC(ModelRecord)
CONCLAVE_WIRE_CODEC(SetAlias)
CONCLAVE_WIRE_CODEC(DigestsRequest)
CONCLAVE_WIRE_CODEC(ModelDigests)
CONCLAVE_WIRE_CODEC(AdminRequest)
CONCLAVE_WIRE_CODEC(AdminReply)
CONCLAVE_WIRE_CODEC(KeyQuestion)
CONCLAVE_WIRE_CODEC(KeyAnswer)
CONCLAVE_WIRE_CODEC(UsageBatch)
CONCLAVE_WIRE_CODEC(Recorded)
CONCLAVE_WIRE_CODEC(LeaseRequest)
CONCLAVE_WIRE_CODEC(LeaseReply)
CONCLAVE_WIRE_CODEC(AuditEvent)
CONCLAVE_WIRE_CODEC(DeploymentsRequest)
CONCLAVE_WIRE_CODEC(DeploymentList)
CONCLAVE_WIRE_CODEC(CatalogChanged)
CONCLAVE_WIRE_CODEC(StateRequest)
CONCLAVE_WIRE_CODEC(StateReply)

#undef CONCLAVE_WIRE_CODEC

}  // namespace conclave::wire::codec
