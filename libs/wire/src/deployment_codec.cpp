#include "codecs.hpp"

namespace conclave::wire::codec {

namespace {

void write(Encoder& encoder, schema::Deployment::Builder to, const Deployment& from) {
  to.setName(encoder.text(from.name, kNameBytesMax, "deployment.name"));
  auto splits = to.initSplits(encoder.size(from.splits.size(), kSplitsMax, "deployment.splits"));
  for (capnp::uint i = 0; i < splits.size(); ++i) {
    const DeploymentSplit& split = from.splits[i];
    splits[i].setReference(encoder.text(split.reference, kReferenceBytesMax, "split.reference"));
    write(encoder, splits[i].initModel(), split.model);
    splits[i].setWeight(split.weight);
  }
  to.setSticky(static_cast<schema::Stickiness>(from.sticky));
  write(encoder, to.initShadow(), from.shadow);
  to.setShadowPercent(from.shadow_percent);
  auto pins = to.initPins(encoder.size(from.pins.size(), kPinsMax, "deployment.pins"));
  for (capnp::uint i = 0; i < pins.size(); ++i) {
    const DeploymentPin& pin = from.pins[i];
    pins[i].setWorkerGroup(encoder.text(pin.worker_group, kNameBytesMax, "pin.worker_group"));
    pins[i].setFirstLayer(pin.first_layer);
    pins[i].setLastLayer(pin.last_layer);
    pins[i].setFirstExpert(pin.first_expert);
    pins[i].setLastExpert(pin.last_expert);
  }
  to.setReplicaFloor(from.replica_floor);
  to.setPolicy(static_cast<schema::DegradedPolicy>(from.policy));
}

void read(Decoder& decoder, schema::Deployment::Reader from, Deployment& to) {
  to.name = decoder.text(from.getName(), kNameBytesMax, "deployment.name");
  const auto splits = from.getSplits();
  decoder.elements(splits.size(), kSplitsMax, "deployment.splits");
  to.splits.resize(splits.size());
  for (capnp::uint i = 0; i < splits.size(); ++i) {
    DeploymentSplit& split = to.splits[i];
    split.reference = decoder.text(splits[i].getReference(), kReferenceBytesMax, "split.reference");
    read(decoder, splits[i].getModel(), split.model);
    split.weight = splits[i].getWeight();
  }
  to.sticky =
      decoder.enumerant_or_zero(from.getSticky(), Stickiness::kSession, "deployment.sticky");
  read(decoder, from.getShadow(), to.shadow);
  to.shadow_percent = from.getShadowPercent();
  const auto pins = from.getPins();
  decoder.elements(pins.size(), kPinsMax, "deployment.pins");
  to.pins.reserve(pins.size());
  for (const auto pin : pins) {
    to.pins.push_back({decoder.text(pin.getWorkerGroup(), kNameBytesMax, "pin.worker_group"),
                       pin.getFirstLayer(), pin.getLastLayer(), pin.getFirstExpert(),
                       pin.getLastExpert()});
  }
  to.replica_floor = from.getReplicaFloor();
  to.policy =
      decoder.enumerant_or_zero(from.getPolicy(), DegradedPolicy::kFail, "deployment.policy");
}

}  // namespace

void write(Encoder&, schema::DeploymentsRequest::Builder to, const DeploymentsRequest& from) {
  to.setRevision(from.revision);
}

void read(Decoder&, schema::DeploymentsRequest::Reader from, DeploymentsRequest& to) {
  to.revision = from.getRevision();
}

void write(Encoder& encoder, schema::DeploymentList::Builder to, const DeploymentList& from) {
  to.setRevision(from.revision);
  to.setUnchanged(from.unchanged);
  auto list =
      to.initDeployments(encoder.size(from.deployments.size(), kDeploymentsMax, "deployments"));
  for (capnp::uint i = 0; i < list.size(); ++i) write(encoder, list[i], from.deployments[i]);
  to.setStale(from.stale);
}

void read(Decoder& decoder, schema::DeploymentList::Reader from, DeploymentList& to) {
  to.revision = from.getRevision();
  to.unchanged = from.getUnchanged();
  const auto list = from.getDeployments();
  decoder.elements(list.size(), kDeploymentsMax, "deployments");
  to.deployments.resize(list.size());
  for (capnp::uint i = 0; i < list.size(); ++i) read(decoder, list[i], to.deployments[i]);
  to.stale = from.getStale();
}

void write(Encoder&, schema::CatalogChanged::Builder to, const CatalogChanged& from) {
  to.setRevision(from.revision);
}

void read(Decoder&, schema::CatalogChanged::Reader from, CatalogChanged& to) {
  to.revision = from.getRevision();
}

}  // namespace conclave::wire::codec
