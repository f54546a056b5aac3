@0xda171345e0cd24ce;
# Words that several conversations share. Nothing here is a message of its own.
#
# Rules that hold in every file of this folder (README.md has the rules of change):
#
# - Zero means "absent" or "unknown" wherever a field does not say otherwise: empty text, a null
#   pointer, the enumerant that is called `unset`. A field that a sender must set and did not makes
#   the message corrupt (kCorruptData).
# - Text is UTF-8 and is refused if it is not. What may hold half a character is Data.
# - A reader that meets an enumerant it does not know answers kUnimplemented: the sender is newer.
# - Floats are IEEE 754 and pass as they are, NaN included; whoever uses them checks their range.
# - Bounds are those of libs/wire/include/conclave/wire/limits.hpp, named here by their constant. A
#   reader checks them before it allocates anything; a writer never exceeds them.
# - A message has one segment, is one frame, and fills it exactly. It is never packed.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("conclave::wire::schema");

enum ErrorCode {
  # Named by the next move of whoever receives it; numbers are those of base::ErrorCode.

  unset @0;               # no error
  invalidArgument @1;     # fix the request
  notFound @2;            # what was named does not exist
  failedPrecondition @3;  # right request, wrong state: change the state first
  overloaded @4;          # a limit is reached: back off and retry
  unavailable @5;         # this one cannot: try elsewhere, or later
  deadlineExceeded @6;    # nobody waits any more
  cancelled @7;           # the caller asked for it
  corruptData @8;         # bytes contradict their format: do not send them again
  unimplemented @9;       # valid, but the receiver's build does not do it
  internal @10;           # a bug: report it
}

struct Error {
  code @0 :ErrorCode;
  message @1 :Text;
  # For people. At most kErrorBytesMax: writers cut it and replace what is not UTF-8, since it may
  # quote anything.
}

enum NodeRole {
  unset @0;  # no node has it
  gateway @1;
  router @2;
  expertWorker @3;
  scheduler @4;
  registry @5;
  operator @6;  # the `conclave` command
}

struct TraceContext {
  # W3C trace context (https://www.w3.org/TR/trace-context/). A null pointer: no trace.

  traceIdHigh @0 :UInt64;  # the first 16 of the 32 hex digits, as a number
  traceIdLow @1 :UInt64;   # the last 16
  spanId @2 :UInt64;       # the 16 hex digits of the parent id, as a number
  flags @3 :UInt8;         # bit 0: sampled
}

struct ModelVersion {
  # One immutable version of a model.

  name @0 :Text;       # at most kNameBytesMax
  version @1 :UInt32;  # from 1; 0: no model
  uri @2 :Text;        # a path on a volume that the node sees; at most kUriBytesMax
  sha256 @3 :Text;     # of the whole file, 64 hex digits; empty: not known
}
