#include "lane.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <cerrno>
#include <utility>

namespace conclave::fabric {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

/// Messages taken from one socket before others get their turn.
constexpr int kMessagesPerRead = 256;
/// Turns of inline actors before sockets get theirs.
constexpr std::size_t kTurnsPerRound = 64;
/// Envelope, body, and the routing id that ZeroMQ puts in front; one more shows that there are
/// more.
constexpr std::size_t kFramesMax = 4;
/// Timers of all links are looked at together, and not more often than this.
constexpr milliseconds kTimerTick{2};

}  // namespace

Lane::Lane(Context::Internal& context, std::shared_ptr<NodeCore> core, caf::actor_system& system,
           Directory& directory, Exports& exports)
    : context_(context),
      core_(std::move(core)),
      system_(system),
      directory_(directory),
      exports_(exports),
      metrics_(context.metrics()),
      unit_(system) {}

void Lane::run() {
  for (;;) {
    now_ = steady_clock::now();
    take_posts();
    unit_.run(kTurnsPerRound);
    if (now_ >= next_check_) check_timers();
    if (stopping_ && may_leave()) return leave();
    buried_.clear();
    poll(unit_.idle());
  }
}

void Lane::take_posts() {
  core_->queue.take(posts_);
  for (LaneItem& item : posts_) {
    if (auto* outgoing = std::get_if<Outgoing>(&item)) {
      transmit(std::move(*outgoing));
    } else if (auto* overflow = std::get_if<Overflow>(&item)) {
      if (Link* link = overflow->box->owner)
        take_down(*link, "takes too little of what it is sent");
    } else {
      std::get<std::function<void()>>(item)();
    }
  }
  posts_.clear();
}

void Lane::poll(bool wait) {
  if (sockets_changed_) collect_poll_items();
  const bool sleeps = wait && core_->queue.arm();
  milliseconds timeout{0};
  if (sleeps) {
    const auto next = std::min(next_check_, stop_by_);
    // Rounded up: a lane that wakes too early would spin until the time has come.
    timeout = next == Time::max()
                  ? milliseconds{-1}
                  : std::max(milliseconds{0},
                             std::chrono::ceil<milliseconds>(next - steady_clock::now()));
  }
  const int ready = zmq_poll(items_.data(), static_cast<int>(items_.size()), timeout.count());
  if (sleeps) core_->queue.disarm();
  now_ = steady_clock::now();
  if (ready <= 0) return;  // time, or a signal
  for (std::size_t i = 1; i < items_.size(); ++i) {
    if (items_[i].revents == 0) continue;
    const auto [server, link] = owners_[i];
    // What came first may have closed the socket.
    if (server != nullptr && items_[i].socket == server->socket.handle()) read_server(*server);
    if (server != nullptr && items_[i].socket == server->monitor.handle()) {
      read_server_monitor(*server);
    }
    if (link != nullptr && items_[i].socket == link->socket.handle()) read_client(*link);
    if (link != nullptr && items_[i].socket == link->monitor.handle()) read_client_monitor(*link);
  }
}

void Lane::collect_poll_items() {
  items_.assign(1, {nullptr, core_->queue.descriptor(), ZMQ_POLLIN, 0});
  owners_.assign(1, {nullptr, nullptr});
  const auto add = [this](void* socket, Server* server, Link* link) {
    if (socket == nullptr) return;
    items_.push_back({socket, 0, ZMQ_POLLIN, 0});
    owners_.emplace_back(server, link);
  };
  for (const auto& server : servers_) {
    add(server->socket.handle(), server.get(), nullptr);
    add(server->monitor.handle(), server.get(), nullptr);
  }
  for (const auto& [id, link] : links_) {
    // A connection's last messages are read before its end.
    add(link->socket.handle(), nullptr, link.get());
    add(link->monitor.handle(), nullptr, link.get());
  }
  sockets_changed_ = false;
}

bool Lane::receive(zmq::socket_t& socket) {
  frames_.clear();
  too_many_frames_ = false;
  bool more = true;
  while (more) {
    zmq::message_t frame;
    if (zmq_msg_recv(frame.handle(), socket.handle(), ZMQ_DONTWAIT) < 0) return false;
    more = frame.more();
    if (frames_.size() < kFramesMax) {
      frames_.push_back(std::move(frame));
    } else {
      too_many_frames_ = true;
    }
  }
  return true;
}

void Lane::read_server(Server& server) {
  for (int i = 0; i < kMessagesPerRead && receive(server.socket); ++i) on_server_frames(server);
}

void Lane::read_client(Link& link) {
  for (int i = 0; i < kMessagesPerRead && link.socket && receive(link.socket); ++i) {
    on_client_frames(link);
  }
}

void Lane::read_server_monitor(Server& server) {
  while (const auto event = server.monitor.next()) context_.count_failed_handshake(*event);
}

void Lane::read_client_monitor(Link& link) {
  while (link.monitor.handle() != nullptr) {
    const auto event = link.monitor.next();
    if (!event) return;
    // ZeroMQ tries again by itself, but not after every way in which a handshake can fail.
    const Time anew = now_ + milliseconds(core_->settings.peer_timeout_ms);
    switch (event->event) {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        link.connected = true;
        link.hellos = 0;
        say_hello(link);
        break;
      case ZMQ_EVENT_DISCONNECTED:
        // Messages may have come before the end; ZeroMQ reports it beside them.
        read_client(link);
        take_down(link, "disconnected");
        if (!link.socket) return;  // it was up
        link.connected = false;
        link.due = Time::max();
        link.give_up = anew;
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        context_.turned_away(link.address, "the keys of this side or of the server do not fit");
        link.give_up = anew;
        break;
      default:  // HANDSHAKE_FAILED_NO_DETAIL
        link.give_up = anew;
        break;
    }
    wake_by(link.give_up);
  }
}

void Lane::check_timers() {
  Time next = Time::max();
  std::vector<Link*> links;  // checks may end some
  links.reserve(links_.size());
  for (const auto& [id, link] : links_) links.push_back(link.get());
  for (Link* link : links) check_link(*link, next);
  next_check_ = next == Time::max() ? next : std::max(next, now_ + kTimerTick);
}

void Lane::check_link(Link& link, Time& next) {
  if (link.up()) {
    if (link.direct) {
      if (now_ >= link.next_heartbeat) check_direct(link);
    } else if (now_ >= link.last_heard + milliseconds(core_->settings.peer_timeout_ms)) {
      take_down(link, "silent for " + std::to_string(core_->settings.peer_timeout_ms) + " ms");
    } else if (now_ >= link.next_heartbeat) {
      link.next_heartbeat = now_ + milliseconds(core_->settings.heartbeat_ms);
      send_plain(link, core_->envelope(wire::FrameKind::kHeartbeat), {});
    }
  }
  while (auto late = link.waiting.take_expired(now_)) {
    finish(*late);
    fail_request(late->requester,
                 {base::ErrorCode::kDeadlineExceeded, link.peer.name + " did not answer"});
  }
  while (link.serving.take_expired(now_)) {
  }
  if (link.is_client() && !link.up() && !stopping_ && !link.removed) {
    if (now_ >= link.give_up) {
      close_socket(link, milliseconds{0});
      open_client(link);
    } else if (now_ >= link.due) {
      if (link.socket) {
        say_hello(link);
      } else {
        open_client(link);
      }
    }
    next = std::min({next, link.due, link.give_up});
  }
  if (link.up() && link.direct) {
    next = std::min(next, link.next_heartbeat);
  } else if (link.up()) {
    next = std::min({next, link.next_heartbeat, link.waiting.next_deadline(),
                     link.serving.next_deadline(),
                     link.last_heard + milliseconds(core_->settings.peer_timeout_ms)});
  }
}

void Lane::add_server(std::unique_ptr<Server> server) {
  servers_.push_back(std::move(server));
  sockets_changed_ = true;
}

void Lane::add_client(std::unique_ptr<Link> link) {
  Link& added = *link;
  links_.emplace(added.id, std::move(link));
  sockets_changed_ = true;
  greet_when_connected(added);
}

void Lane::remove(LinkId id) {
  const auto found = links_.find(id);
  if (found == links_.end()) return;
  Link& link = *found->second;
  link.removed = true;
  take_down(link, "closed here");
  if (link.is_client()) bury(link);
}

void Lane::bury(Link& link) {
  close_socket(link, linger_);
  sockets_changed_ = true;
  const auto found = links_.find(link.id);
  buried_.push_back(std::move(found->second));
  links_.erase(found);
}

void Lane::refresh_inline() { unit_.set_actors(exports_.inline_actors()); }

void Lane::add_listener(Listener listener) {
  for (const auto& [id, link] : links_) {
    if (link->up()) listener({id, true, link->peer, {}});
  }
  listeners_.push_back(std::move(listener));
}

void Lane::begin_stop(Time deadline) {
  stopping_ = true;
  stop_by_ = deadline;
  for (const auto& [id, link] : links_) {
    if (link->direct) link->direct->begin_stop();
  }
}

bool Lane::may_leave() const {
  if (now_ >= stop_by_) return true;
  return std::none_of(links_.begin(), links_.end(), [](const auto& entry) {
    const Link& link = *entry.second;
    return !link.serving.empty() || (link.direct && link.direct->serves());
  });
}

void Lane::leave() {
  linger_ = std::max(milliseconds{0}, duration_cast<milliseconds>(stop_by_ - steady_clock::now()));
  for (const auto& server : servers_) {
    if (server->direct) context_.direct_nodes().remove(server->address);
  }
  core_->queue.close();
  take_posts();  // what came in before that
  std::vector<std::size_t> peers;
  for (const auto& server : servers_) peers.push_back(server->peers.size());
  while (!links_.empty()) remove(links_.begin()->first);
  for (std::size_t i = 0; i < servers_.size(); ++i) close_server(*servers_[i], peers[i], linger_);
  servers_.clear();
  buried_.clear();
  unit_.retire();
  exports_.close();
  listeners_.clear();
}

}  // namespace conclave::fabric
