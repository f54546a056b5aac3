@0xe32a80960e89b276;
# The data plane: rows out to experts, outputs back, once a worker, layer and step.
#
# Who sends. A router sends ExpertCall to every worker that hosts an expert which some row of the
# step was gated to, with one payload; the worker answers ExpertReply, with the outputs as payload
# if `ok`. This is the hottest conversation of all: the header is small, and rows, pairs and outputs
# are raw little-endian memory beside it, laid out so that kernels use them in place.
#
# Payload of a call. Parts in this order, each present only as said, each starting on a multiple of
# 64 bytes (wire::layout_of computes the offsets):
#
#   pairs   always                     (pairs) of {uint32 row, uint32 expert}, sorted by expert,
#                                      then row; row < rows, expert < experts of a layer
#   quants  forms quantized and both   (rows, hidden) int8
#   scales  forms quantized and both   (rows, hidden / 32) float: of each block of 32 quants; the same
#                                      for 8 blocks where the layer's experts have K-quants
#   floats  forms floats and both      (rows, hidden) float
#
# Payload of a reply: y (pairs, hidden) float, the output of each pair in the order of the call's
# pairs, not yet weighted by the gate. The router adds them up in its own order, so that the result
# does not depend on which worker computed what.
#
# Order. A router has a few calls open on one link; replies come in any order and a worker may
# compute several calls together.
#
# Retries. A call is a pure function of its payload and the model: a router may send it again, to
# the same worker or another, and takes the first answer.
#
# Refusals. kFailedPrecondition: another model (`modelKey`), or an expert that this worker does not
# have ready; look at a newer table. kUnavailable: the worker drains. kInvalidArgument: the counts
# and the payload do not fit. kOverloaded, kDeadlineExceeded: as everywhere.
#
# Limits. rows: kCallRowsMax. pairs: kCallPairsMax. hidden: kHiddenMax. The payload:
# kPayloadBytesMax. None of the counts may be zero.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

using Common = import "common.capnp";

enum RowForms {
  # Which forms of the rows are in the payload, by what the layer's weights multiply with.

  unset @0;  # corrupt
  quantized @1;
  floats @2;
  both @3;
}

struct ExpertCall {
  # router -> worker, answered by ExpertReply.

  modelKey @0 :UInt64;  # the first 16 hex digits of the model file's SHA-256, as a number
  epoch @1 :UInt64;     # of the routing table that chose this worker
  layer @2 :UInt32;     # from 0, all layers counted
  rows @3 :UInt32;
  pairs @4 :UInt32;
  hidden @5 :UInt32;    # floats of a row
  forms @6 :RowForms;
}

struct ExpertReply {
  ok @0 :Bool;             # false: `error` says why, and there is no payload
  error @1 :Common.Error;  # null if ok
  queueUs @2 :UInt32;      # microseconds from arrival to the start of computing
  computeUs @3 :UInt32;    # microseconds of the merged batch
  batchPairs @4 :UInt32;   # pairs computed together with this call, its own included
}
