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
  const auto backbone = digest_data(from.backbone);
  if (backbone.size() != 0) to.setBackbone(backbone);
  to.setLeaving(from.leaving);
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
  to.backbone = read_digest(from.getBackbone(), "table.backbone");
  to.leaving = from.getLeaving();
}

}  // namespace

void write(Encoder& encoder, schema::ReportReply::Builder to, const ReportReply& from) {
  to.setLeaseMs(from.lease_ms);
  to.setEpoch(from.epoch);
  encoder.size(from.assignments.size(), kVersionsMax, "assignments");
  if (!from.assignments.empty()) {
    write(encoder, to.initAssignment(), from.assignments.front());
    auto further = to.initAssignments(static_cast<capnp::uint>(from.assignments.size() - 1));
    for (capnp::uint i = 0; i < further.size(); ++i) {
      write(encoder, further[i], from.assignments[i + 1]);
    }
  }
  encoder.size(from.tables.size(), kVersionsMax, "tables");
  if (!from.tables.empty()) {
    write(encoder, to.initTable(), from.tables.front());
    auto further = to.initTables(static_cast<capnp::uint>(from.tables.size() - 1));
    for (capnp::uint i = 0; i < further.size(); ++i) write(encoder, further[i], from.tables[i + 1]);
  }
  if (from.fleet) write(encoder, to.initFleet(), *from.fleet);
  to.setTerm(from.term);
  to.setLeader(encoder.text(from.leader, kUriBytesMax, "leader"));
}

void read(Decoder& decoder, schema::ReportReply::Reader from, ReportReply& to) {
  to.lease_ms = from.getLeaseMs();
  to.epoch = from.getEpoch();
  if (from.hasAssignment()) {
    read(decoder, from.getAssignment(), to.assignments.emplace_back());
    const auto further = from.getAssignments();
    decoder.elements(further.size(), kVersionsMax - 1, "assignments");
    for (const auto assignment : further) read(decoder, assignment, to.assignments.emplace_back());
  }
  if (from.hasTable()) {
    read(decoder, from.getTable(), to.tables.emplace_back());
    const auto further = from.getTables();
    decoder.elements(further.size(), kVersionsMax - 1, "tables");
    for (const auto table : further) read(decoder, table, to.tables.emplace_back());
  }
  if (from.hasFleet()) read(decoder, from.getFleet(), to.fleet.emplace());
  to.term = from.getTerm();
  to.leader = decoder.text(from.getLeader(), kUriBytesMax, "leader");
}

void write(Encoder&, schema::Nudge::Builder to, const Nudge& from) { to.setEpoch(from.epoch); }

void read(Decoder&, schema::Nudge::Reader from, Nudge& to) { to.epoch = from.getEpoch(); }

void write(Encoder&, schema::FleetRequest::Builder, const FleetRequest&) {}

void read(Decoder&, schema::FleetRequest::Reader, FleetRequest&) {}

}  // namespace conclave::wire::codec
