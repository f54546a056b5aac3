#include "control_actors.hpp"

#include <algorithm>
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

base::Result<std::string> LedgerState::sender(std::initializer_list<wire::NodeRole> roles) const {
  const auto found = nodes_.find(fabric::link_of(self_->current_sender()));
  if (found == nodes_.end() || std::ranges::find(roles, found->second.role) == roles.end()) {
    return base::fail(base::ErrorCode::kFailedPrecondition, "this is not for such a node to say");
  }
  return found->second.node;
}

LedgerActor::behavior_type LedgerState::make_behavior() {
  using wire::NodeRole;
  self_->set_default_handler(caf::drop);
  return {[this](const wire::KeyQuestion& question) {
            const auto from = sender({NodeRole::kGateway});
            return answer("key", from ? ledger_->key(question) : base::fail(from.error()));
          },
          [this](const wire::UsageBatch& batch) {
            const auto from = sender({NodeRole::kGateway});
            return answer("usage", from ? ledger_->usage(batch) : base::fail(from.error()));
          },
          [this](const wire::LeaseRequest& request) {
            const auto from = sender({NodeRole::kScheduler});
            return answer("lease", from ? ledger_->lease(request) : base::fail(from.error()));
          },
          [this](const wire::StateRequest& request) {
            const auto from = sender({NodeRole::kScheduler});
            return answer("state", from ? ledger_->state(request) : base::fail(from.error()));
          },
          [this](const wire::AuditEvent& event) {
            const auto from = sender({NodeRole::kGateway, NodeRole::kRouter,
                                      NodeRole::kExpertWorker, NodeRole::kScheduler});
            return answer("event", from ? ledger_->event(event, *from) : base::fail(from.error()));
          },
          [this](const LinkPeer& peer) { on_peer(peer); },
          [this](const wire::CatalogChanged& changed) {
            revision_ = changed.revision;
            for (const auto& [link, peer] : nodes_) tell(peer);
          }};
}

// Who comes (back) may have missed a change.
void LedgerState::on_peer(const LinkPeer& peer) {
  if (peer.node.empty()) {
    nodes_.erase(peer.link);
  } else {
    nodes_[peer.link] = peer;
    tell(peer);
  }
}

void LedgerState::tell(const LinkPeer& peer) {
  if (peer.role != wire::NodeRole::kGateway && peer.role != wire::NodeRole::kScheduler) return;
  self_->send(node_.remote<fabric::WatcherActor>(peer.link, fabric::kWatcherActor),
              wire::CatalogChanged{revision_});
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
