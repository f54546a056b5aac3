@0xae332045eb32e0b3;
# The conversation of the scheduler with every node: what a node is and has, what it shall do, and
# which expert is where.
#
# Who sends. Every node but the scheduler sends NodeReport (a request) to the scheduler's `fleet`
# actor once a second, and at once when something changed or a Nudge came; the scheduler answers
# ReportReply. The scheduler casts Nudge to a node's `reporter` actor when there is news for it. An
# operator sends FleetRequest, answered by Fleet.
#
# State. All of it is soft: a report is the whole truth about its node, never a difference, so a
# scheduler that restarts knows the fleet after one round, and a report that is lost costs one
# second. A node whose lease has run out (`leaseMs` without a report) is gone; a report with a
# greater incarnation replaces the former process at once.
#
# Epochs. The scheduler counts up one number for every change of plan or fleet, over restarts too.
# A node names the newest one that it has applied (`epochSeen`) and is sent what is newer. Nodes
# ignore what is older than what they have.
#
# Order. A node has one report open at a time. Changes of placement are made before they are used: a
# worker loads, verifies and reports `ready`; only then does a RoutingTable name it; routers move to
# the new table; only then is the old copy dropped from an Assignment.
#
# Retries. A report that failed is not repeated; the next one is newer.
#
# Limits. Nodes: kNodesMax. Layers: kLayersMax. Experts of a layer: kExpertsMax; of all:
# kAllExpertsMax. Entries of all pools: kPoolEntriesMax. Versions open, assigned, listed or served at
# once: kVersionsMax. Refused experts of a report: kRefusedMax.
#
# Versions. A fleet may serve several at once. What is said of one of them stands in the fields that
# there were first; what is said of further ones stands in the lists that were appended, each of which
# leaves the first one out. Fleet, which is small, says all of it again in its list.
#
# Schedulers. Of several, one leads; the others answer reports with its address and nothing else. Its
# `term` is the fencing token of its lease: a node ignores what comes with a lower one than it has
# seen, but for 0, which a scheduler that needs no lease sends.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

using Common = import "common.capnp";

struct ExpertBits {
  # A set of (layer, expert). A null pointer is the empty set of no layers.

  layers @0 :UInt32;
  experts @1 :UInt32;  # a layer
  words @2 :List(UInt64);
  # Bit i % 64 of word i / 64 is expert i % experts of layer i / experts. Exactly as many words as
  # that takes; bits beyond the last expert are zero.
}

enum NodeState {
  unset @0;     # corrupt
  starting @1;  # not usable yet; `reason` says why
  ready @2;
  draining @3;  # finishes what it has, takes nothing new
}

struct NodeLoad {
  # What a node does now. Totals count up from the start of its incarnation. Fields of other roles
  # are 0.

  pairsTotal @0 :UInt64;      # worker: pairs computed
  callsTotal @1 :UInt64;      # worker: calls answered
  computeUsTotal @2 :UInt64;  # worker: microseconds in the kernels
  running @3 :UInt32;         # router: sequences in the batch; gateway: requests
  waiting @4 :UInt32;         # router: sequences in the queue
  kvTokensUsed @5 :UInt64;    # router: tokens that its cache holds
  kvTokensMax @6 :UInt64;     # router: tokens that it can hold
  tokensTotal @7 :UInt64;     # router: tokens generated
}

struct HostedModel {
  # A version that a node has open.

  model @0 :Common.ModelVersion;
  state @1 :NodeState;   # of this version: a router serves it, or opens or leaves it
  reason @2 :Text;       # why it is not ready, for people; cut like an error's message
  ready @3 :ExpertBits;  # worker: loaded and verified
  expertPairs @4 :List(UInt64);  # worker: as NodeReport's
}

struct RefusedExpert {
  # What a node has read and does not use, since it is not what was registered.

  model @0 :Common.ModelVersion;
  layer @1 :UInt32;  # 2^32 - 1, as the index: the backbone
  index @2 :UInt32;
  reason @3 :Text;  # for people; cut like an error's message
}

struct NodeReport {
  # node -> scheduler, answered by ReportReply.

  node @0 :Text;  # unique in the fleet; at most kNameBytesMax
  role @1 :Common.NodeRole;
  incarnation @2 :UInt64;
  state @3 :NodeState;
  reason @4 :Text;           # why it is not ready, for people; cut like an error's message
  address @5 :Text;
  # Where its peers connect: data calls of a worker, inference of a router. kUriBytesMax.
  adminAddress @6 :Text;     # host:port of /metrics, /health, /ready; kUriBytesMax
  device @7 :Text;           # worker: "cpu:0-1"; at most kNameBytesMax
  memoryBytes @8 :UInt64;    # worker: what experts may take
  memoryUsedBytes @9 :UInt64;  # worker: what they take
  slots @10 :UInt32;         # worker: most experts that it hosts; 0: as memory allows
  epochSeen @11 :UInt64;     # of the newest assignment, table or fleet that it applied; 0: none
  model @12 :Common.ModelVersion;  # what it has open; null or version 0: none
  ready @13 :ExpertBits;     # worker: loaded and verified
  load @14 :NodeLoad;
  expertPairs @15 :List(UInt64);
  # worker: pairs computed by each expert of `ready`, layer by layer in the order of its bits, since the
  # worker opened the model. As many as `ready` has; an empty list: not said.
  further @16 :List(HostedModel);  # versions that it has open beside `model`
  modelState @17 :NodeState;       # of `model`, as HostedModel's; unset: `state`
  modelReason @18 :Text;           # of `model`, as HostedModel's
  refused @19 :List(RefusedExpert);  # worker, router: what it was to load and its checks refuse
  zone @20 :Text;                  # where it stands: what fails together; at most kNameBytesMax
  lost @21 :List(Text);            # router: workers of its tables that it cannot reach now, by node
  term @22 :UInt64;
  # The greatest of a scheduler whose word it took, for as long as it ignores lower ones; 0: none. What a
  # worker says of its experts may be changed by the leader of that term until it follows the next one.
}

struct AssignedExpert {
  layer @0 :UInt32;
  index @1 :UInt32;
  sha256 @2 :Data;  # 32 bytes, over its byte ranges one after the other; empty: not recorded
}

struct Assignment {
  # What a worker shall host of one version: load what is missing, in this order; drop what is not
  # listed. All assignments of one reply are the whole truth: a version without one is dropped.

  epoch @0 :UInt64;
  model @1 :Common.ModelVersion;
  experts @2 :List(AssignedExpert);
}

struct WorkerEndpoint {
  node @0 :Text;  # at most kNameBytesMax
  incarnation @1 :UInt64;
  address @2 :Text;  # at most kUriBytesMax
}

enum DegradedPolicy {
  # What a router does about an expert that no reachable worker has.

  wait @0;      # its requests wait until one has it again
  nextBest @1;  # tokens do without it: the gate's next best takes its place, but never of the best
  fail @2;      # its requests fail
}

struct RoutingTable {
  # Where each expert of one version may be called now: only workers that reported it ready. All tables
  # of one reply are the whole truth: a router opens these versions, and leaves others.

  epoch @0 :UInt64;
  model @1 :Common.ModelVersion;
  layers @2 :UInt32;
  experts @3 :UInt32;  # a layer
  workers @4 :List(WorkerEndpoint);
  first @5 :List(UInt32);
  # layers * experts + 1 entries that never fall, from 0 to the length of `pool`. A table of no
  # experts may leave it out.
  pool @6 :List(UInt16);
  # The workers of expert e of layer l are pool[first[i]] up to, not with, pool[first[i + 1]], where
  # i = l * experts + e. Each is an index into `workers`.
  policy @7 :DegradedPolicy;
  backbone @8 :Data;  # SHA-256 of the version's backbone, 32 bytes; empty: not recorded
  leaving @9 :Bool;
  # Nobody wants this version any more. A router keeps it open, and goes on with what it is brought,
  # but leaves it out of its reports while it computes nothing of it.
}

struct NodeStatus {
  report @0 :NodeReport;  # its last one
  silentMs @1 :UInt32;    # milliseconds since then
  assigned @2 :UInt32;    # worker: experts that it shall host
}

struct ServedModel {
  # A version that the fleet serves, or is about to, or leaves.

  model @0 :Common.ModelVersion;
  expertsTotal @1 :UInt32;
  expertsReady @2 :UInt32;   # with at least one ready replica
  complete @3 :Bool;         # every expert has one
  leaving @4 :Bool;          # nobody wants it any more: what runs ends, nothing begins
  reason @5 :Text;           # why it is not complete, for people; cut like an error's message
  aliases @6 :List(Text);    # of its model, that point at it
}

struct Fleet {
  # All nodes with a lease, and what is served. Fields 1 to 4 are of the first version.

  epoch @0 :UInt64;
  model @1 :Common.ModelVersion;  # null or version 0: none yet
  expertsTotal @2 :UInt32;
  expertsReady @3 :UInt32;  # with at least one ready replica
  complete @4 :Bool;        # every expert has one
  reason @5 :Text;          # why not all that is wanted is served; cut like an error's message
  nodes @6 :List(NodeStatus);
  models @7 :List(ServedModel);
  # All versions. The first is that of `scheduler.model`, if it names one. Empty: what fields 1 to 4 say.
  term @8 :UInt64;   # of the scheduler that answers; 0: it needs no lease
  leader @9 :Text;   # address of the scheduler that leads; empty: this one; kUriBytesMax
}

struct ReportReply {
  # scheduler -> node: what is newer than the report's epochSeen, by role. A null pointer: no news.

  leaseMs @0 :UInt32;  # milliseconds; the node is gone if it does not report for this long
  epoch @1 :UInt64;    # the scheduler's newest
  assignment @2 :Assignment;  # for workers
  table @3 :RoutingTable;     # for routers
  fleet @4 :Fleet;            # for gateways, always, as loads change
  assignments @5 :List(Assignment);  # of further versions; only beside `assignment`
  tables @6 :List(RoutingTable);     # of further versions; only beside `table`
  term @7 :UInt64;   # of the scheduler that answers; 0: it needs no lease
  leader @8 :Text;   # address of the scheduler to report to instead; empty: this one; kUriBytesMax
}

struct Nudge {
  # scheduler -> node, cast: there is news, report now.

  epoch @0 :UInt64;
}

struct FleetRequest {
  # operator -> scheduler, answered by Fleet.
}
