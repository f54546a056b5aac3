// What a node says of itself, and what a scheduler says of all of them.
#include <algorithm>

#include "codecs.hpp"

namespace conclave::wire::codec {

using base::ErrorCode;

namespace {

void write(Encoder& encoder, schema::ExpertBits::Builder to, const ExpertBits& from) {
  check_shape(ErrorCode::kInvalidArgument, from.layers(), from.experts());
  to.setLayers(from.layers());
  to.setExperts(from.experts());
  auto words = to.initWords(encoder.size(from.words().size(), kAllExpertsMax / 64, "ready.words"));
  for (capnp::uint i = 0; i < words.size(); ++i) words.set(i, from.words()[i]);
}

void read(Decoder& decoder, schema::ExpertBits::Reader from, ExpertBits& to) {
  const std::size_t all = check_shape(ErrorCode::kCorruptData, from.getLayers(), from.getExperts());
  std::vector<std::uint64_t> words;
  decoder.numbers(from.getWords(), words, kAllExpertsMax / 64, "ready.words");
  if (words.size() != (all + 63) / 64) {
    refuse(ErrorCode::kCorruptData, "ready.words", "not one bit for each expert");
  }
  to = ExpertBits(from.getLayers(), from.getExperts(), words);
  if (!std::ranges::equal(to.words(), words)) {
    refuse(ErrorCode::kCorruptData, "ready.words", "bits beyond the last expert");
  }
}

void write(Encoder&, schema::NodeLoad::Builder to, const NodeLoad& from) {
  to.setPairsTotal(from.pairs_total);
  to.setCallsTotal(from.calls_total);
  to.setComputeUsTotal(from.compute_us_total);
  to.setRunning(from.running);
  to.setWaiting(from.waiting);
  to.setKvTokensUsed(from.kv_tokens_used);
  to.setKvTokensMax(from.kv_tokens_max);
  to.setTokensTotal(from.tokens_total);
}

void read(Decoder&, schema::NodeLoad::Reader from, NodeLoad& to) {
  to.pairs_total = from.getPairsTotal();
  to.calls_total = from.getCallsTotal();
  to.compute_us_total = from.getComputeUsTotal();
  to.running = from.getRunning();
  to.waiting = from.getWaiting();
  to.kv_tokens_used = from.getKvTokensUsed();
  to.kv_tokens_max = from.getKvTokensMax();
  to.tokens_total = from.getTokensTotal();
}

void check_pairs(ErrorCode code, const HostedModel& hosted) {
  const std::size_t size = hosted.expert_pairs.size();
  if (size != 0 && size != hosted.ready.count()) {
    refuse(code, "expert_pairs", "not one number for each ready expert");
  }
}

// A version counts from 1, or it says nothing.
void check_model(ErrorCode code, const ModelVersion& model) {
  if (model.version == 0) refuse(code, "models", "one without a version");
}

// What the first version, in the report itself, and further ones in its list have in common.
template <class Builder>
void write_hosted(Encoder& encoder, Builder to, const HostedModel& from) {
  check_model(ErrorCode::kInvalidArgument, from.model);
  check_pairs(ErrorCode::kInvalidArgument, from);
  write(encoder, to.initModel(), from.model);
  write(encoder, to.initReady(), from.ready);
  encoder.numbers(
      to.initExpertPairs(encoder.size(from.expert_pairs.size(), kAllExpertsMax, "expert_pairs")),
      from.expert_pairs);
}

template <class Reader>
void read_hosted(Decoder& decoder, Reader from, HostedModel& to) {
  read(decoder, from.getModel(), to.model);
  read(decoder, from.getReady(), to.ready);
  decoder.numbers(from.getExpertPairs(), to.expert_pairs, kAllExpertsMax, "expert_pairs");
  check_pairs(ErrorCode::kCorruptData, to);
}

void write_models(Encoder& encoder, schema::NodeReport::Builder to,
                  const std::vector<HostedModel>& from) {
  encoder.size(from.size(), kVersionsMax, "models");
  if (from.empty()) return;
  write_hosted(encoder, to, from.front());
  to.setModelState(static_cast<schema::NodeState>(from.front().state));
  to.setModelReason(encoder.prose(from.front().reason));
  auto further = to.initFurther(static_cast<capnp::uint>(from.size() - 1));
  for (capnp::uint i = 0; i < further.size(); ++i) {
    const HostedModel& hosted = from[i + 1];
    write_hosted(encoder, further[i], hosted);
    further[i].setState(static_cast<schema::NodeState>(hosted.state));
    further[i].setReason(encoder.prose(hosted.reason));
  }
}

void read_models(Decoder& decoder, schema::NodeReport::Reader from, NodeState state,
                 std::vector<HostedModel>& to) {
  HostedModel& first = to.emplace_back();
  read_hosted(decoder, from, first);
  first.state = from.getModelState() == schema::NodeState::UNSET
                    ? state
                    : decoder.enumerant(from.getModelState(), NodeState::kDraining, "model_state");
  first.reason = decoder.text(from.getModelReason(), kErrorBytesMax, "model_reason");
  const auto further = from.getFurther();
  if (first.model.version == 0) {
    if (further.size() != 0) refuse(ErrorCode::kCorruptData, "further", "beside no model");
    to.clear();
    return;
  }
  decoder.elements(further.size(), kVersionsMax - 1, "further");
  for (const auto item : further) {
    HostedModel& hosted = to.emplace_back();
    read_hosted(decoder, item, hosted);
    check_model(ErrorCode::kCorruptData, hosted.model);
    hosted.state = decoder.enumerant(item.getState(), NodeState::kDraining, "further.state");
    hosted.reason = decoder.text(item.getReason(), kErrorBytesMax, "further.reason");
  }
}

void write_refused(Encoder& encoder, schema::NodeReport::Builder to,
                   const std::vector<RefusedExpert>& from) {
  auto refused = to.initRefused(encoder.size(from.size(), kRefusedMax, "refused"));
  for (capnp::uint i = 0; i < refused.size(); ++i) {
    write(encoder, refused[i].initModel(), from[i].model);
    refused[i].setLayer(from[i].layer);
    refused[i].setIndex(from[i].index);
    refused[i].setReason(encoder.prose(from[i].reason));
  }
}

void read_refused(Decoder& decoder, schema::NodeReport::Reader from,
                  std::vector<RefusedExpert>& to) {
  const auto refused = from.getRefused();
  decoder.elements(refused.size(), kRefusedMax, "refused");
  to.resize(refused.size());
  for (capnp::uint i = 0; i < refused.size(); ++i) {
    read(decoder, refused[i].getModel(), to[i].model);
    to[i].layer = refused[i].getLayer();
    to[i].index = refused[i].getIndex();
    to[i].reason = decoder.text(refused[i].getReason(), kErrorBytesMax, "refused.reason");
  }
}

template <class List>
void write_texts(Encoder& encoder, List to, const std::vector<std::string>& from,
                 std::string_view field) {
  for (capnp::uint i = 0; i < to.size(); ++i)
    to.set(i, encoder.text(from[i], kNameBytesMax, field));
}

void write(Encoder& encoder, schema::ServedModel::Builder to, const ServedModel& from) {
  write(encoder, to.initModel(), from.model);
  to.setExpertsTotal(from.experts_total);
  to.setExpertsReady(from.experts_ready);
  to.setComplete(from.complete);
  to.setLeaving(from.leaving);
  to.setReason(encoder.prose(from.reason));
  write_texts(encoder, to.initAliases(encoder.size(from.aliases.size(), kListMax, "aliases")),
              from.aliases, "aliases");
}

void read(Decoder& decoder, schema::ServedModel::Reader from, ServedModel& to) {
  read(decoder, from.getModel(), to.model);
  to.experts_total = from.getExpertsTotal();
  to.experts_ready = from.getExpertsReady();
  to.complete = from.getComplete();
  to.leaving = from.getLeaving();
  to.reason = decoder.text(from.getReason(), kErrorBytesMax, "model.reason");
  decoder.texts(from.getAliases(), to.aliases, kListMax, kNameBytesMax, "aliases");
}

// What senders said before they knew of several versions.
void read_only_model(Decoder& decoder, schema::Fleet::Reader from, Fleet& to) {
  ServedModel model;
  read(decoder, from.getModel(), model.model);
  model.experts_total = from.getExpertsTotal();
  model.experts_ready = from.getExpertsReady();
  model.complete = from.getComplete();
  if (model.model.version != 0) to.models.push_back(std::move(model));
}

void write(Encoder& encoder, schema::NodeStatus::Builder to, const NodeStatus& from) {
  write(encoder, to.initReport(), from.report);
  to.setSilentMs(from.silent_ms);
  to.setAssigned(from.assigned);
}

void read(Decoder& decoder, schema::NodeStatus::Reader from, NodeStatus& to) {
  read(decoder, from.getReport(), to.report);
  to.silent_ms = from.getSilentMs();
  to.assigned = from.getAssigned();
}

}  // namespace

void write(Encoder& encoder, schema::NodeReport::Builder to, const NodeReport& from) {
  to.setNode(encoder.text(from.node, kNameBytesMax, "node"));
  to.setRole(static_cast<schema::NodeRole>(from.role));
  to.setIncarnation(from.incarnation);
  to.setState(static_cast<schema::NodeState>(from.state));
  to.setReason(encoder.prose(from.reason));
  to.setAddress(encoder.text(from.address, kUriBytesMax, "address"));
  to.setAdminAddress(encoder.text(from.admin_address, kUriBytesMax, "admin_address"));
  to.setDevice(encoder.text(from.device, kNameBytesMax, "device"));
  to.setMemoryBytes(from.memory_bytes);
  to.setMemoryUsedBytes(from.memory_used_bytes);
  to.setSlots(from.slots);
  to.setEpochSeen(from.epoch_seen);
  write_models(encoder, to, from.models);
  write(encoder, to.initLoad(), from.load);
  write_refused(encoder, to, from.refused);
  to.setZone(encoder.text(from.zone, kNameBytesMax, "zone"));
  write_texts(encoder, to.initLost(encoder.size(from.lost.size(), kNodesMax, "lost")), from.lost,
              "lost");
  to.setTerm(from.term);
}

void read(Decoder& decoder, schema::NodeReport::Reader from, NodeReport& to) {
  to.node = decoder.text(from.getNode(), kNameBytesMax, "node");
  to.role = decoder.enumerant(from.getRole(), NodeRole::kOperator, "role");
  to.incarnation = from.getIncarnation();
  to.state = decoder.enumerant(from.getState(), NodeState::kDraining, "state");
  to.reason = decoder.text(from.getReason(), kErrorBytesMax, "reason");
  to.address = decoder.text(from.getAddress(), kUriBytesMax, "address");
  to.admin_address = decoder.text(from.getAdminAddress(), kUriBytesMax, "admin_address");
  to.device = decoder.text(from.getDevice(), kNameBytesMax, "device");
  to.memory_bytes = from.getMemoryBytes();
  to.memory_used_bytes = from.getMemoryUsedBytes();
  to.slots = from.getSlots();
  to.epoch_seen = from.getEpochSeen();
  read_models(decoder, from, to.state, to.models);
  read(decoder, from.getLoad(), to.load);
  read_refused(decoder, from, to.refused);
  to.zone = decoder.text(from.getZone(), kNameBytesMax, "zone");
  decoder.texts(from.getLost(), to.lost, kNodesMax, kNameBytesMax, "lost");
  to.term = from.getTerm();
}

void write(Encoder& encoder, schema::Fleet::Builder to, const Fleet& from) {
  to.setEpoch(from.epoch);
  auto models = to.initModels(encoder.size(from.models.size(), kVersionsMax, "models"));
  for (capnp::uint i = 0; i < models.size(); ++i) {
    check_model(ErrorCode::kInvalidArgument, from.models[i].model);
    write(encoder, models[i], from.models[i]);
  }
  if (!from.models.empty()) {
    const ServedModel& first = from.models.front();
    write(encoder, to.initModel(), first.model);
    to.setExpertsTotal(first.experts_total);
    to.setExpertsReady(first.experts_ready);
    to.setComplete(first.complete);
  }
  to.setReason(encoder.prose(from.reason));
  auto nodes = to.initNodes(encoder.size(from.nodes.size(), kNodesMax, "nodes"));
  for (capnp::uint i = 0; i < nodes.size(); ++i) write(encoder, nodes[i], from.nodes[i]);
  to.setTerm(from.term);
  to.setLeader(encoder.text(from.leader, kUriBytesMax, "leader"));
}

void read(Decoder& decoder, schema::Fleet::Reader from, Fleet& to) {
  to.epoch = from.getEpoch();
  const auto models = from.getModels();
  decoder.elements(models.size(), kVersionsMax, "models");
  to.models.resize(models.size());
  for (capnp::uint i = 0; i < models.size(); ++i) {
    read(decoder, models[i], to.models[i]);
    check_model(ErrorCode::kCorruptData, to.models[i].model);
  }
  if (to.models.empty()) read_only_model(decoder, from, to);
  to.reason = decoder.text(from.getReason(), kErrorBytesMax, "reason");
  const auto nodes = from.getNodes();
  decoder.elements(nodes.size(), kNodesMax, "nodes");
  to.nodes.resize(nodes.size());
  for (capnp::uint i = 0; i < nodes.size(); ++i) read(decoder, nodes[i], to.nodes[i]);
  to.term = from.getTerm();
  to.leader = decoder.text(from.getLeader(), kUriBytesMax, "leader");
}

}  // namespace conclave::wire::codec
