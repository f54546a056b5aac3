// Links within the process, without a socket: the two lanes tell each other of them in tasks, and
// what goes over them passes no lane (direct_end.hpp).
#include <caf/all.hpp>
#include <utility>

#include "lane.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using std::chrono::milliseconds;
using wire::FrameKind;

DirectEnd::Node Lane::direct_node() { return {own_address(), &exports_, &context_, &metrics_}; }

// The current link of a client whose knock this is.
Link* Lane::link_of_knock(const Knock& knock) {
  const auto found = links_.find(knock.link);
  if (found == links_.end() || found->second->up() || !found->second->direct) return nullptr;
  return found->second->direct == knock.end->other() ? found->second.get() : nullptr;
}

Link* Lane::link_of_end(const std::shared_ptr<DirectEnd>& end) {
  for (const auto& [id, link] : links_) {
    if (link->direct == end) return link.get();
  }
  return nullptr;
}

// ---- the side that connects ----

void Lane::knock(Link& link) {
  auto [own, other] = DirectEnd::make(direct_node());
  link.direct = std::move(own);
  const Knock knock{link.address, core_->identity, link.id, std::move(other), own_address()};
  link.due = Time::max();
  link.give_up = Time::max();
  if (context_.direct_nodes().find(link.address).post([knock](Lane& server) {
        server.on_knock(knock);
      })) {
    metrics_.sent(FrameKind::kHello, 0);
    link.give_up = now_ + milliseconds(core_->settings.peer_timeout_ms);
    return wake_by(link.give_up);
  }
  link.due = now_ + milliseconds(core_->settings.reconnect_ms);
  wake_by(link.due);
}

void Lane::on_direct_welcome(const Knock& knock, const NodeIdentity& server,
                             const LaneAddress& lane) {
  Link* const link = link_of_knock(knock);
  const bool fits = link != nullptr && server.role == link->server_role;
  if (fits) {
    link->direct_peer = std::make_shared<const LaneAddress>(lane);
    if (stopping_) link->direct->begin_stop();
    return take_up(*link, server);
  }
  (void)lane.post([end = knock.end](Lane& to) { to.on_direct_goodbye(end); });
  if (link == nullptr) return;
  context_.refused(Refusal::kWrongRole, link->address, "the server is another role's");
  link->direct.reset();
  link->due = now_ + milliseconds(core_->settings.peer_timeout_ms);
  link->give_up = Time::max();
  wake_by(link->due);
}

void Lane::on_direct_refusal(const Knock& knock, const base::Error& error) {
  Link* const link = link_of_knock(knock);
  if (link == nullptr) return;
  context_.turned_away(link->address, error.message);
  link->direct.reset();
  // As over a socket: it may be an earlier start of this node that is still linked.
  const bool soon = error.code == ErrorCode::kUnavailable;
  link->due =
      now_ + milliseconds(soon ? core_->settings.reconnect_ms : core_->settings.peer_timeout_ms);
  link->give_up = Time::max();
  wake_by(link->due);
}

// ---- the side that is connected to ----

void Lane::on_knock(const Knock& knock) {
  const auto refuse = [&](base::Error error) {
    (void)knock.client.post([knock, error = std::move(error)](Lane& client) {
      client.on_direct_refusal(knock, error);
    });
  };
  const auto server = std::find_if(servers_.begin(), servers_.end(), [&](const auto& listening) {
    return listening->address == knock.address;
  });
  if (server == servers_.end()) return refuse({ErrorCode::kUnavailable, "it is starting"});
  if (auto admitted = admit(knock.from.role, knock.from); !admitted) {
    return refuse(std::move(admitted).error());
  }
  take_down_known(knock.from);
  Link& link = add_link(**server, "direct " + std::to_string(knock.link), knock.from);
  link.direct = knock.end;
  link.direct_peer = std::make_shared<const LaneAddress>(knock.client);
  link.direct->attach(direct_node());
  // Before what listeners may send when they hear of it.
  metrics_.sent(FrameKind::kWelcome, 0);
  (void)knock.client.post([knock, self = core_->identity, lane = own_address()](Lane& client) {
    client.on_direct_welcome(knock, self, lane);
  });
  take_up(link, knock.from);
}

// ---- both ----

std::vector<Waiting> Lane::part(Link& link) {
  const auto end = std::exchange(link.direct, nullptr);
  const auto peer = std::exchange(link.direct_peer, nullptr);
  auto unanswered = end->close();
  if (auto other = end->other()) {
    metrics_.sent(FrameKind::kGoodbye, 0);
    (void)peer->post([other = std::move(other)](Lane& lane) { lane.on_direct_goodbye(other); });
  }
  return unanswered;
}

void Lane::on_direct_goodbye(const std::shared_ptr<DirectEnd>& end) {
  if (Link* link = link_of_end(end)) take_down(*link, "goodbye");
}

void Lane::overflowed(const std::shared_ptr<DirectEnd>& end) {
  if (Link* link = link_of_end(end)) take_down(*link, "takes too little of what it is sent");
}

// Deadlines are minutes: often enough with the heartbeats that such a link does not need.
void Lane::check_direct(Link& link) {
  link.next_heartbeat = now_ + milliseconds(core_->settings.heartbeat_ms);
  for (const Waiting& late : link.direct->expire(now_)) {
    finish(late);
    fail_request(late.requester,
                 {ErrorCode::kDeadlineExceeded, link.peer.name + " did not answer"});
  }
}

}  // namespace conclave::fabric
