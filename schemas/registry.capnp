@0xeca09a2bed3a444b;
# Questions to the registry: which versions of which models exist, what they are made of, and which
# name means which.
#
# Who sends. Operators send RegisterModel and SetAlias; the scheduler, gateways and operators send the
# questions. The registry casts CatalogChanged to the `watcher` actor of linked gateways and schedulers.
# All others go to the registry's `catalog` actor; each struct says what answers it. Answers to
# names that do not exist are kNotFound.
#
# Order. None: a version never changes once it has a number, and aliases are read when asked.
#
# Retries. Everything may be repeated. RegisterModel of the same bytes gives the same version again;
# SetAlias is idempotent. Registering reads the whole file, so its deadline must allow for that.
#
# Names. A model's name and an alias have neither '@' nor ':'. A reference is "name", which means
# its alias `production` or else its newest version, "name@alias", or "name:version".
#
# Limits. Names and aliases: kNameBytesMax. References: kReferenceBytesMax. URIs: kUriBytesMax.
# Records of one listing, and aliases of one version: kListMax. Deployments: kDeploymentsMax; their
# splits: kSplitsMax; their pins: kPinsMax.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

using Common = import "common.capnp";
using Placement = import "placement.capnp";

struct RegisterModel {
  # Answered by ModelRecord when the file has been read and its sums recorded.

  name @0 :Text;  # empty: from the file
  uri @1 :Text;
  aliases @2 :List(Text);  # to point at it
}

struct ResolveModel {
  # Answered by ModelRecord.

  reference @0 :Text;
}

struct ListModels {
  # Answered by ModelList.

  after @0 :Text;    # the last reference of the page before, "name:version"; empty: from the start
  limit @1 :UInt32;  # records, 1 to kListMax
}

struct ModelList {
  models @0 :List(ModelRecord);  # by name, then falling version
  more @1 :Bool;                 # there is another page
}

struct ModelRecord {
  model @0 :Common.ModelVersion;
  bytes @1 :UInt64;         # of the file, all parts
  architecture @2 :Text;    # as the file calls it; at most kNameBytesMax
  blockTypes @3 :Text;      # "Q8_0, F32", most bytes first; at most kNameBytesMax
  parameters @4 :UInt64;
  contextLength @5 :UInt32;  # tokens
  layers @6 :UInt32;         # with experts or without
  denseLayers @7 :UInt32;    # leading layers without routed experts
  experts @8 :UInt32;        # a layer; 0: the model has none
  expertsUsed @9 :UInt32;    # of them, for one token
  expertBytes @10 :UInt64;   # of the largest expert
  backboneBytes @11 :UInt64;  # of everything but routed experts
  aliases @12 :List(Text);    # that point at this version
  createdUnixMs @13 :Int64;   # milliseconds since 1970, UTC
}

struct SetAlias {
  # Answered by ModelRecord. Moves the alias, or makes it.

  name @0 :Text;
  alias @1 :Text;
  version @2 :UInt32;
}

struct DigestsRequest {
  # Answered by ModelDigests.

  name @0 :Text;
  version @1 :UInt32;
}

struct ModelDigests {
  # SHA-256 of the bytes of the backbone and of every expert.

  model @0 :Common.ModelVersion;
  layers @1 :UInt32;   # all of the model's, with experts or without
  experts @2 :UInt32;  # a layer
  backbone @3 :Data;   # 32 bytes; empty: not recorded
  expert @4 :Data;
  # 32 bytes for each expert of each layer: layer 0's experts first. Zeros for layers without
  # experts.
}

struct DeploymentsRequest {
  # Answered by DeploymentList.

  revision @0 :UInt64;  # of the list that the asker has; 0: none
}

enum Stickiness {
  # How a request stays with one version of a split.

  none @0;
  user @1;     # by the user that it names
  session @2;  # by the session that it names
}

struct DeploymentSplit {
  reference @0 :Text;
  model @1 :Common.ModelVersion;  # what that means now; null or version 0: nothing that can serve
  weight @2 :UInt32;              # share of all weights
}

struct DeploymentPin {
  # Experts that only workers of one group may host. Bounds are inclusive.

  workerGroup @0 :Text;  # at most kNameBytesMax
  firstLayer @1 :UInt32;
  lastLayer @2 :UInt32;
  firstExpert @3 :UInt32;
  lastExpert @4 :UInt32;
}

struct Deployment {
  # What is served under one public name.

  name @0 :Text;
  splits @1 :List(DeploymentSplit);
  sticky @2 :Stickiness;
  shadow @3 :Common.ModelVersion;  # whose answers nobody sees; null or version 0: none
  shadowPercent @4 :UInt32;        # of requests
  pins @5 :List(DeploymentPin);
  replicaFloor @6 :UInt32;         # 0: the scheduler's setting
  policy @7 :Placement.DegradedPolicy;
}

struct DeploymentList {
  # All of them, with what their references mean now.

  revision @0 :UInt64;  # of the catalog; rises with every change
  unchanged @1 :Bool;   # it is what the asker has: no list follows
  deployments @2 :List(Deployment);
  stale @3 :Bool;       # read from a snapshot, since the database is away
}

struct CatalogChanged {
  # Cast: what was read of the catalog before may not be true any more.

  revision @0 :UInt64;  # of the newest change
}
