@0x84886cbe41023721;
# Administration over HTTP, carried to the service that owns what is asked about.
#
# Who sends. A gateway, for a client that it has let in: it takes /admin/v1/.. requests, finds out whose
# key they carry (ledger.capnp) and sends AdminRequest to the `admin` actor of the scheduler, for what
# is about the fleet and its placement, or of a registry, for all else. The answer is AdminReply. What
# paths there are, and what their JSON means, is the owner's business alone; the gateway passes on.
#
# Trust. The owner believes a gateway, by its key, what it says of the subject, and judges what this
# subject may do.
#
# Order. None.
#
# Retries. The gateway never sends a request twice; whoever asked may, as HTTP says of its method.
#
# Limits. Paths and queries: kAdminTargetBytesMax. Bodies of requests: kAdminBodyBytesMax; those of replies:
# kMessageBytesMax as a whole.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

using Ledger = import "ledger.capnp";

struct AdminRequest {
  # gateway -> registry or scheduler, answered by AdminReply.

  method @0 :Text;     # GET, POST, ..; at most kNameBytesMax
  path @1 :Text;       # as the client sent it: percent-encoded
  query @2 :Text;      # without the question mark
  body @3 :Data;       # JSON, or nothing
  ifMatch @4 :Text;    # of the header; kNameBytesMax
  requestId @5 :Text;  # for logs and the audit; kRequestIdBytesMax
  subject @6 :Ledger.Subject;  # who asks; never null
}

struct AdminReply {
  status @0 :UInt16;       # of HTTP
  contentType @1 :Text;    # empty: there is no body; kNameBytesMax
  body @2 :Data;
  etag @3 :Text;           # with its quotation marks; empty: none; kNameBytesMax
  location @4 :Text;       # empty: none; kAdminTargetBytesMax
  stale @5 :Bool;          # read from a snapshot, since the database is away
  retryAfterS @6 :UInt32;  # seconds; 0: not said
}
