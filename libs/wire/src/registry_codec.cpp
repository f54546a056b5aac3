#include <algorithm>

#include "codecs.hpp"

namespace conclave::wire::codec {

using base::ErrorCode;

namespace {

template <class List>
void write_aliases(Encoder& encoder, List to, const std::vector<std::string>& from) {
  for (capnp::uint i = 0; i < to.size(); ++i) {
    to.set(i, encoder.text(from[i], kNameBytesMax, "aliases"));
  }
}

}  // namespace

void write(Encoder& encoder, schema::RegisterModel::Builder to, const RegisterModel& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "name"));
  to.setUri(encoder.text(from.uri, kUriBytesMax, "uri"));
  write_aliases(encoder, to.initAliases(encoder.size(from.aliases.size(), kListMax, "aliases")),
                from.aliases);
}

void read(Decoder& decoder, schema::RegisterModel::Reader from, RegisterModel& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "name");
  to.uri = decoder.text(from.getUri(), kUriBytesMax, "uri");
  decoder.texts(from.getAliases(), to.aliases, kListMax, kNameBytesMax, "aliases");
}

void write(Encoder& encoder, schema::ResolveModel::Builder to, const ResolveModel& from) {
  to.setReference(encoder.text(from.reference, kReferenceBytesMax, "reference"));
}

void read(Decoder& decoder, schema::ResolveModel::Reader from, ResolveModel& to) {
  to.reference = decoder.text(from.getReference(), kReferenceBytesMax, "reference");
}

void write(Encoder& encoder, schema::ListModels::Builder to, const ListModels& from) {
  to.setAfter(encoder.text(from.after, kReferenceBytesMax, "after"));
  to.setLimit(from.limit);
}

void read(Decoder& decoder, schema::ListModels::Reader from, ListModels& to) {
  to.after = decoder.text(from.getAfter(), kReferenceBytesMax, "after");
  to.limit = from.getLimit();
}

void write(Encoder& encoder, schema::ModelRecord::Builder to, const ModelRecord& from) {
  write(encoder, to.initModel(), from.model);
  to.setBytes(from.bytes);
  to.setArchitecture(encoder.text(from.architecture, kNameBytesMax, "architecture"));
  to.setBlockTypes(encoder.text(from.block_types, kNameBytesMax, "block_types"));
  to.setParameters(from.parameters);
  to.setContextLength(from.context_length);
  to.setLayers(from.layers);
  to.setDenseLayers(from.dense_layers);
  to.setExperts(from.experts);
  to.setExpertsUsed(from.experts_used);
  to.setExpertBytes(from.expert_bytes);
  to.setBackboneBytes(from.backbone_bytes);
  write_aliases(encoder, to.initAliases(encoder.size(from.aliases.size(), kListMax, "aliases")),
                from.aliases);
  to.setCreatedUnixMs(from.created_unix_ms);
}

void read(Decoder& decoder, schema::ModelRecord::Reader from, ModelRecord& to) {
  read(decoder, from.getModel(), to.model);
  to.bytes = from.getBytes();
  to.architecture = decoder.text(from.getArchitecture(), kNameBytesMax, "architecture");
  to.block_types = decoder.text(from.getBlockTypes(), kNameBytesMax, "block_types");
  to.parameters = from.getParameters();
  to.context_length = from.getContextLength();
  to.layers = from.getLayers();
  to.dense_layers = from.getDenseLayers();
  to.experts = from.getExperts();
  to.experts_used = from.getExpertsUsed();
  to.expert_bytes = from.getExpertBytes();
  to.backbone_bytes = from.getBackboneBytes();
  decoder.texts(from.getAliases(), to.aliases, kListMax, kNameBytesMax, "aliases");
  to.created_unix_ms = from.getCreatedUnixMs();
}

void write(Encoder& encoder, schema::ModelList::Builder to, const ModelList& from) {
  auto models = to.initModels(encoder.size(from.models.size(), kListMax, "models"));
  for (capnp::uint i = 0; i < models.size(); ++i) write(encoder, models[i], from.models[i]);
  to.setMore(from.more);
}

void read(Decoder& decoder, schema::ModelList::Reader from, ModelList& to) {
  const auto models = from.getModels();
  decoder.elements(models.size(), kListMax, "models");
  to.models.resize(models.size());
  for (capnp::uint i = 0; i < models.size(); ++i) read(decoder, models[i], to.models[i]);
  to.more = from.getMore();
}

void write(Encoder& encoder, schema::SetAlias::Builder to, const SetAlias& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "name"));
  to.setAlias(encoder.text(from.alias, kNameBytesMax, "alias"));
  to.setVersion(from.version);
}

void read(Decoder& decoder, schema::SetAlias::Reader from, SetAlias& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "name");
  to.alias = decoder.text(from.getAlias(), kNameBytesMax, "alias");
  to.version = from.getVersion();
}

void write(Encoder& encoder, schema::DigestsRequest::Builder to, const DigestsRequest& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "name"));
  to.setVersion(from.version);
}

void read(Decoder& decoder, schema::DigestsRequest::Reader from, DigestsRequest& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "name");
  to.version = from.getVersion();
}

void write(Encoder& encoder, schema::ModelDigests::Builder to, const ModelDigests& from) {
  if (from.expert.size() != check_shape(ErrorCode::kInvalidArgument, from.layers, from.experts)) {
    refuse(ErrorCode::kInvalidArgument, "expert", "not one digest for each expert");
  }
  write(encoder, to.initModel(), from.model);
  to.setLayers(from.layers);
  to.setExperts(from.experts);
  to.setBackbone(digest_data(from.backbone));
  auto expert = to.initExpert(static_cast<capnp::uint>(from.expert.size() * sizeof(Sha256)));
  for (std::size_t i = 0; i < from.expert.size(); ++i) {
    std::ranges::copy(from.expert[i], expert.begin() + i * sizeof(Sha256));
  }
}

void read(Decoder& decoder, schema::ModelDigests::Reader from, ModelDigests& to) {
  read(decoder, from.getModel(), to.model);
  to.layers = from.getLayers();
  to.experts = from.getExperts();
  to.backbone = read_digest(from.getBackbone(), "backbone");
  const auto expert = from.getExpert();
  const std::size_t all = check_shape(ErrorCode::kCorruptData, to.layers, to.experts);
  if (expert.size() != all * sizeof(Sha256)) {
    refuse(ErrorCode::kCorruptData, "expert", "not one digest for each expert");
  }
  to.expert.resize(all);
  for (std::size_t i = 0; i < all; ++i) {
    std::copy_n(expert.begin() + i * sizeof(Sha256), sizeof(Sha256), to.expert[i].begin());
  }
}

}  // namespace conclave::wire::codec
