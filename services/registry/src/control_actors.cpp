#include "control_actors.hpp"

#include <caf/all.hpp>

#include "conclave/fabric/caf_error.hpp"

namespace conclave::registry {

template <class T>
caf::result<T> LedgerState::answer(const char* request, base::Result<T> outcome) {
  if (outcome) {
    metrics_.answered(request, {});
    return std::move(*outcome);
  }
  metrics_.answered(request, base::fail(outcome.error()));
  return fabric::to_caf(outcome.error());
}

std::string LedgerState::sender() const {
  const auto found = nodes_.find(fabric::link_of(self_->current_sender()));
  return found == nodes_.end() ? "unknown" : found->second;
}

LedgerActor::behavior_type LedgerState::make_behavior() {
  self_->set_default_handler(caf::drop);
  return {
      [this](const wire::KeyQuestion& question) { return answer("key", ledger_->key(question)); },
      [this](const wire::UsageBatch& batch) { return answer("usage", ledger_->usage(batch)); },
      [this](const wire::LeaseRequest& request) {
        return answer("lease", ledger_->lease(request));
      },
      [this](const wire::AuditEvent& event) {
        return answer("event", ledger_->event(event, sender()));
      },
      [this](const LinkName& link) {
        if (link.node.empty()) {
          nodes_.erase(link.link);
        } else {
          nodes_[link.link] = link.node;
        }
      }};
}

fabric::AdminActor::behavior_type AdminState::make_behavior() {
  self_->set_default_handler(caf::drop);
  return {[this](const wire::AdminRequest& request) { return serve(request); }};
}

wire::AdminReply AdminState::serve(const wire::AdminRequest& request) {
  const bool reads = request.method == "GET";
  const std::string question = request.path + "?" + request.query;
  wire::AdminReply reply = api_->serve(request);
  if (reads && reply.status == 200) {
    answers_.keep(question, reply, question.size() + reply.body.size() + sizeof reply);
  } else if (reads && reply.status == 503) {
    if (auto known = answers_.find(question)) {
      reply = *std::move(known);
      reply.stale = true;
    }
  }
  if (!reads && reply.status < 300) {
    log_.info("administered", {{"method", request.method},
                               {"path", request.path},
                               {"status", reply.status},
                               {"key", request.subject.key_id},
                               {"request_id", request.request_id}});
  }
  metrics_.answered("admin", reply.status < 500
                                 ? base::Status()
                                 : base::fail(base::ErrorCode::kUnavailable, "see its answer"));
  return reply;
}

}  // namespace conclave::registry
