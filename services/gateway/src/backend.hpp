// Where the front hands requests over to the core's thread.
#pragma once

#include "admin_call.hpp"
#include "gateway_core.hpp"
#include "openai_request.hpp"

namespace conclave::gateway {

struct TokenizeCall {
  ApiCall call;
  TokenizeBody body;
  Admission::Ticket ticket;
};

struct DetokenizeCall {
  ApiCall call;
  wire::DetokenizeRequest request;
  Admission::Ticket ticket;
};

/// Any thread; nothing blocks. Every call is answered through its ApiCall.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void submit(Submission submission) = 0;
  virtual void client_gone(RequestId request) = 0;
  virtual void tokenize(TokenizeCall call) = 0;
  virtual void detokenize(DetokenizeCall call) = 0;
  virtual void administer(AdminCall call) = 0;
};

}  // namespace conclave::gateway
