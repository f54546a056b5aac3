@0xa55a733878b3f8dc;
# What is in front of every message, and the messages of a link itself.
#
# Frames. A message on a link is: an Envelope, then its body (one message of the schema that `type`
# names; no frame at all for `none`), then, if `payloadBytes` is not zero, raw memory that only the
# body's rules explain. The envelope alone says where all of it goes, so a relay need not open the
# body.
#
# Who sends. A client connects and sends `hello`; the server answers `welcome`, or `error` and
# closes. Nothing else is sent before. Afterwards either end sends requests and casts to actors that
# the other has published under a name (`target`); link frames have no target. Heartbeats go both
# ways; an end that hears nothing for the agreed time calls the link lost. `goodbye` tells that the
# loss is meant.
#
# Order. Frames of one link arrive in the order in which they were sent, or the link is lost; there
# is no order between links. Replies come in any order and find their request by `requestId`.
#
# Retries. The link never sends a frame twice. A request whose link is lost fails with kUnavailable
# at its sender, who does not know whether it was received: what each body's schema says about
# retries holds. A reply whose request id nobody waits for (late, cancelled) is dropped and counted.
#
# Deadlines are absolute and pass from hop to hop; work whose deadline has passed is dropped by
# whoever holds it, and a request is then answered kDeadlineExceeded. Hosts need clocks that agree
# to a fraction of the shortest deadline.
#
# Incarnation. A number that rises with every start of a node. A greater one from the same node
# name is a restart: what the link had open with the former process is void.
#
# Limits. target: kNameBytesMax. The body: kMessageBytesMax. The payload: kPayloadBytesMax. A
# process may set tighter ones, then answers kOverloaded.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

using Common = import "common.capnp";

enum FrameKind {
  unset @0;      # corrupt
  request @1;    # answered by reply or error with the same requestId
  reply @2;      # of the type that the request's schema names
  error @3;      # body: ErrorBody; answers a request, or a hello
  cast @4;       # nobody answers
  hello @5;      # client -> server after connecting; body: Hello
  welcome @6;    # the server's answer; body: Hello
  heartbeat @7;  # both ways; no body
  goodbye @8;    # an orderly leave; no body
}

enum MessageType {
  # The body's struct, of the same name. An unknown one is no fault of the link: a request is
  # answered kUnimplemented, a cast dropped and counted.

  none @0;  # no body
  hello @1;
  errorBody @2;
  generate @3;
  accepted @4;
  tokenEvents @5;
  cancelStream @6;
  tokenizeRequest @7;
  tokenizeReply @8;
  detokenizeRequest @9;
  detokenizeReply @10;
  expertCall @11;
  expertReply @12;
  nodeReport @13;
  reportReply @14;
  nudge @15;
  fleetRequest @16;
  fleet @17;
  registerModel @18;
  resolveModel @19;
  listModels @20;
  modelList @21;
  modelRecord @22;
  setAlias @23;
  digestsRequest @24;
  modelDigests @25;
  adminRequest @26;
  adminReply @27;
  keyQuestion @28;
  keyAnswer @29;
  usageBatch @30;
  recorded @31;
  leaseRequest @32;
  leaseReply @33;
  auditEvent @34;
  deploymentsRequest @35;
  deploymentList @36;
  catalogChanged @37;
  stateRequest @38;
  stateReply @39;
}

struct Envelope {
  version @0 :UInt16;
  # Of the envelope and of the bodies' meaning: 1. Appending a field does not raise it. A receiver
  # answers another version kUnimplemented and closes the link.

  kind @1 :FrameKind;
  type @2 :MessageType;
  requestId @3 :UInt64;      # unique in the sender's incarnation; 0 for casts and link frames
  incarnation @4 :UInt64;    # of the sending process
  deadlineUnixNs @5 :Int64;  # nanoseconds since 1970, UTC; 0: none
  trace @6 :Common.TraceContext;  # null: not traced
  target @7 :Text;           # the published actor; empty for replies, errors and link frames
  payloadBytes @8 :UInt64;   # of the raw frames after the body, all together; 0: there are none
}

struct Hello {
  # Both ends introduce themselves. What a node may do follows from the key that it connected with,
  # not from this: a name or role that the key does not allow is answered with an error.

  node @0 :Text;  # unique in the fleet; at most kNameBytesMax
  role @1 :Common.NodeRole;
  incarnation @2 :UInt64;
}

struct ErrorBody {
  # Why there is no reply.

  error @0 :Common.Error;  # never null
}
