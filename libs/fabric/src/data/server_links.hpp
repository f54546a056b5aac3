// A worker's links to its routers: listens, greets, opens the local road for those of its host, and
// notices who is gone. It knows nothing of calls but how their bytes travel.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>
#include <zmq.hpp>

#include "conclave/fabric/call_server.hpp"
#include "context_internal.hpp"
#include "data_metrics.hpp"
#include "event_poller.hpp"
#include "local_socket.hpp"
#include "server_call.hpp"
#include "zmq_frames.hpp"

namespace conclave::fabric {

/// What a server and its links have in common; owned by the server.
struct ServerShared {
  Context::Internal& context;
  std::string node_name;
  std::uint64_t incarnation = 0;
  DataSettings settings;
  CallServer::Limits limits;
  EventPoller poller;
  DataMetrics metrics;
};

/// One thread, but for peers(). Bounded by peers_max.
class ServerLinks {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// A request as it came, by a router that has said hello. Not checked.
  struct Request {
    const std::shared_ptr<DataPeer>& peer;
    Road road = Road::kFrames;
    const wire::Envelope& envelope;
    std::span<const std::byte> body;
    zmq::message_t* payload = nullptr;  // of the road of frames; null: it had none
    std::uint64_t offset = 0;           // of the shared road
  };
  class Listener {
   public:
    virtual void requested(const Request& request) = 0;

   protected:
    ~Listener() = default;
  };

  ServerLinks(ServerShared& shared, Listener& listener) : shared_(shared), listener_(listener) {}
  ~ServerLinks();
  ServerLinks(const ServerLinks&) = delete;
  ServerLinks& operator=(const ServerLinks&) = delete;

  /// As CallServer::listen.
  base::Result<std::string> listen(const std::string& address);

  /// Answers a request. `payload`: y, as frame, unless the road is shared or the reply not ok.
  void reply(const std::shared_ptr<DataPeer>& peer, Road road, std::uint64_t request_id,
             const wire::ExpertReply& reply, std::size_t payload_bytes, Buffer payload);

  /// The poller says that something happened.
  void ready(EventPoller::Token token);
  [[nodiscard]] Time due() const { return unread_ ? Time::min() : due_; }
  void tick(Time now);

  [[nodiscard]] std::size_t peers() const { return peer_count_; }

  /// Tokens from here on are of this class.
  static constexpr EventPoller::Token kFirstToken = 1;

 private:
  enum : EventPoller::Token { kRouter = kFirstToken, kMonitor, kListener, kFirstLocal = 16 };
  struct Stranger {  // connected to the local socket, and has not said who it is
    EventPoller::Token token = 0;
    LocalSocket socket;
  };

  void offer_memory();
  void read_router();
  void read_monitor();
  void take(std::vector<zmq::message_t>& frames);
  void greet(const std::string& routing_id, zmq::message_t& head, std::span<const std::byte> body);
  void welcome(const std::shared_ptr<DataPeer>& peer);
  void refuse_hello(const std::string& routing_id, Refusal reason, base::Error error);
  void probe(Time now);
  void request(const Request& request);

  void accept_strangers();
  void hear_stranger(std::deque<Stranger>::iterator stranger);
  std::shared_ptr<DataPeer> peer_of(const Random128& token) const;
  void read_local(std::shared_ptr<DataPeer> peer);

  Delivery send(std::span<zmq::message_t> frames);
  wire::Envelope envelope(wire::FrameKind kind) const;
  void remove(std::shared_ptr<DataPeer> peer, std::string_view why);
  void malformed(std::string_view peer, const base::Error& what);

  ServerShared& shared_;
  Listener& listener_;

  zmq::socket_t router_;
  SocketMonitor monitor_;
  std::vector<zmq::message_t> frames_;
  bool unread_ = false;     // look at the router before waiting: a send may have taken its signal
  Time due_ = Time::max();  // when to look who is gone
  Time probe_until_{};

  std::optional<LocalListener> local_listener_;
  std::deque<Stranger> strangers_;  // oldest first
  EventPoller::Token next_local_ = kFirstLocal;
  std::vector<std::byte> packet_;

  std::unordered_map<std::string, std::shared_ptr<DataPeer>> peers_;  // by routing id
  std::unordered_map<EventPoller::Token, std::shared_ptr<DataPeer>> locals_;
  std::atomic<std::size_t> peer_count_{0};
};

}  // namespace conclave::fabric
