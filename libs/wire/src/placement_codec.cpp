#include <algorithm>

#include "codecs.hpp"

namespace conclave::wire::codec {

using base::ErrorCode;

namespace {

// That pool_of and its callers may index without fear.
void check_table(ErrorCode code, const RoutingTable& table) {
  const std::size_t all = check_shape(code, table.layers, table.experts);
  const auto& first = table.first;
  if (all == 0 && first.empty() && table.pool.empty()) return;
  if (first.size() != all + 1) refuse(code, "table.first", "not one entry an expert and one more");
  if (first.front() != 0 || first.back() != table.pool.size()) {
    refuse(code, "table.first", "not from 0 to the length of the pool");
  }
  if (!std::is_sorted(first.begin(), first.end())) refuse(code, "table.first", "falls");
  const auto known = [&](std::uint16_t worker) { return worker < table.workers.size(); };
  if (!std::all_of(table.pool.begin(), table.pool.end(), known)) {
    refuse(code, "table.pool", "names a worker that is not in the table");
  }
}

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

void write(Encoder& encoder, schema::Assignment::Builder to, const Assignment& from) {
  to.setEpoch(from.epoch);
  write(encoder, to.initModel(), from.model);
  auto experts = to.initExperts(encoder.size(from.experts.size(), kAllExpertsMax, "experts"));
  for (capnp::uint i = 0; i < experts.size(); ++i) {
    const AssignedExpert& expert = from.experts[i];
    experts[i].setLayer(expert.layer);
    experts[i].setIndex(expert.index);
    const auto digest = digest_data(expert.sha256);
    if (digest.size() != 0) experts[i].setSha256(digest);
  }
}

void read(Decoder& decoder, schema::Assignment::Reader from, Assignment& to) {
  to.epoch = from.getEpoch();
  read(decoder, from.getModel(), to.model);
  const auto experts = from.getExperts();
  decoder.elements(experts.size(), kAllExpertsMax, "experts");
  to.experts.reserve(experts.size());
  for (const auto expert : experts) {
    to.experts.push_back(
        {expert.getLayer(), expert.getIndex(), read_digest(expert.getSha256(), "experts.sha256")});
  }
}

void write(Encoder& encoder, schema::RoutingTable::Builder to, const RoutingTable& from) {
  check_table(ErrorCode::kInvalidArgument, from);
  to.setEpoch(from.epoch);
  write(encoder, to.initModel(), from.model);
  to.setLayers(from.layers);
  to.setExperts(from.experts);
  auto workers = to.initWorkers(encoder.size(from.workers.size(), kNodesMax, "table.workers"));
  for (capnp::uint i = 0; i < workers.size(); ++i) {
    workers[i].setNode(encoder.text(from.workers[i].node, kNameBytesMax, "worker.node"));
    workers[i].setIncarnation(from.workers[i].incarnation);
    workers[i].setAddress(encoder.text(from.workers[i].address, kUriBytesMax, "worker.address"));
  }
  encoder.numbers(to.initFirst(encoder.size(from.first.size(), kAllExpertsMax + 1, "table.first")),
                  from.first);
  encoder.numbers(to.initPool(encoder.size(from.pool.size(), kPoolEntriesMax, "table.pool")),
                  from.pool);
  to.setPolicy(static_cast<schema::DegradedPolicy>(from.policy));
}

void read(Decoder& decoder, schema::RoutingTable::Reader from, RoutingTable& to) {
  to.epoch = from.getEpoch();
  read(decoder, from.getModel(), to.model);
  to.layers = from.getLayers();
  to.experts = from.getExperts();
  const auto workers = from.getWorkers();
  decoder.elements(workers.size(), kNodesMax, "table.workers");
  to.workers.reserve(workers.size());
  for (const auto worker : workers) {
    to.workers.push_back({decoder.text(worker.getNode(), kNameBytesMax, "worker.node"),
                          worker.getIncarnation(),
                          decoder.text(worker.getAddress(), kUriBytesMax, "worker.address")});
  }
  decoder.numbers(from.getFirst(), to.first, kAllExpertsMax + 1, "table.first");
  decoder.numbers(from.getPool(), to.pool, kPoolEntriesMax, "table.pool");
  check_table(ErrorCode::kCorruptData, to);
  to.policy = decoder.enumerant_or_zero(from.getPolicy(), DegradedPolicy::kFail, "table.policy");
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
  write(encoder, to.initModel(), from.model);
  write(encoder, to.initReady(), from.ready);
  write(encoder, to.initLoad(), from.load);
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
  read(decoder, from.getModel(), to.model);
  read(decoder, from.getReady(), to.ready);
  read(decoder, from.getLoad(), to.load);
}

void write(Encoder& encoder, schema::Fleet::Builder to, const Fleet& from) {
  to.setEpoch(from.epoch);
  write(encoder, to.initModel(), from.model);
  to.setExpertsTotal(from.experts_total);
  to.setExpertsReady(from.experts_ready);
  to.setComplete(from.complete);
  to.setReason(encoder.prose(from.reason));
  auto nodes = to.initNodes(encoder.size(from.nodes.size(), kNodesMax, "nodes"));
  for (capnp::uint i = 0; i < nodes.size(); ++i) write(encoder, nodes[i], from.nodes[i]);
}

void read(Decoder& decoder, schema::Fleet::Reader from, Fleet& to) {
  to.epoch = from.getEpoch();
  read(decoder, from.getModel(), to.model);
  to.experts_total = from.getExpertsTotal();
  to.experts_ready = from.getExpertsReady();
  to.complete = from.getComplete();
  to.reason = decoder.text(from.getReason(), kErrorBytesMax, "reason");
  const auto nodes = from.getNodes();
  decoder.elements(nodes.size(), kNodesMax, "nodes");
  to.nodes.resize(nodes.size());
  for (capnp::uint i = 0; i < nodes.size(); ++i) read(decoder, nodes[i], to.nodes[i]);
}

void write(Encoder& encoder, schema::ReportReply::Builder to, const ReportReply& from) {
  to.setLeaseMs(from.lease_ms);
  to.setEpoch(from.epoch);
  if (from.assignment) write(encoder, to.initAssignment(), *from.assignment);
  if (from.table) write(encoder, to.initTable(), *from.table);
  if (from.fleet) write(encoder, to.initFleet(), *from.fleet);
}

void read(Decoder& decoder, schema::ReportReply::Reader from, ReportReply& to) {
  to.lease_ms = from.getLeaseMs();
  to.epoch = from.getEpoch();
  if (from.hasAssignment()) read(decoder, from.getAssignment(), to.assignment.emplace());
  if (from.hasTable()) read(decoder, from.getTable(), to.table.emplace());
  if (from.hasFleet()) read(decoder, from.getFleet(), to.fleet.emplace());
}

void write(Encoder&, schema::Nudge::Builder to, const Nudge& from) { to.setEpoch(from.epoch); }

void read(Decoder&, schema::Nudge::Reader from, Nudge& to) { to.epoch = from.getEpoch(); }

void write(Encoder&, schema::FleetRequest::Builder, const FleetRequest&) {}

void read(Decoder&, schema::FleetRequest::Reader, FleetRequest&) {}

}  // namespace conclave::wire::codec
